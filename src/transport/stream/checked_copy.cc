#include "transport/stream/checked_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>

namespace ray_hixl::transport::stream {

bool CheckedCopy::copy(std::span<const iovec> from, std::span<std::byte> into) {
  if (into.empty()) return true;
  if (!open()) return false;
  const auto wanted = static_cast<ssize_t>(into.size());
  if (::writev(in_.get(), from.data(), static_cast<int>(from.size())) == wanted && ::read(out_.get(), into.data(), into.size()) == wanted) {
    return true;
  }
  close();  // whatever is in the pipe must not be read by the next call
  return false;
}

void CheckedCopy::close() {
  in_.reset();
  out_.reset();
}

bool CheckedCopy::open() {
  if (in_) return true;
  std::array<int, 2> ends{};
  const NoFork no_fork;
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return false;
  out_ = Fd(ends[0]);
  in_ = Fd(ends[1]);
  return true;
}

}  // namespace ray_hixl::transport::stream
