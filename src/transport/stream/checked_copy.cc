#include "transport/stream/checked_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>

namespace ray_hixl::transport::stream {

bool CheckedCopy::copy(std::span<const iovec> from, std::span<std::byte> into) {
  if (into.empty()) return true;
  if (!in_ && !open()) return false;
  const auto wanted = static_cast<ssize_t>(into.size());
  if (::writev(in_.get(), from.data(), static_cast<int>(from.size())) == wanted && ::read(out_.get(), into.data(), into.size()) == wanted) {
    return true;
  }
  // Whatever is in the pipe must not be read by the next call.
  in_.reset();
  out_.reset();
  return false;
}

bool CheckedCopy::open() {
  std::array<int, 2> ends{};
  const NoFork no_fork;
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return false;
  out_ = Fd(ends[0]);
  in_ = Fd(ends[1]);
  return true;
}

}  // namespace ray_hixl::transport::stream
