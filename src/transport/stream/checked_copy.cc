#include "transport/stream/checked_copy.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace ray_hixl::transport::stream {
namespace {

// What is left of the pieces without their first bytes.
std::span<iovec> behind(std::span<iovec> pieces, std::size_t bytes) {
  for (; !pieces.empty() && bytes >= pieces.front().iov_len; pieces = pieces.subspan(1)) bytes -= pieces.front().iov_len;
  if (bytes > 0) {
    iovec& torn = pieces.front();
    torn = {static_cast<std::byte*>(torn.iov_base) + bytes, torn.iov_len - bytes};
  }
  return pieces;
}

}  // namespace

bool CheckedCopy::copy(std::span<const iovec> from, std::span<std::byte> into) {
  if (into.empty()) return true;
  if (!open().is_ok()) return false;
  std::array<iovec, kMostVectors> pieces{};
  std::ranges::copy(from, pieces.begin());
  for (std::span<iovec> left(pieces.data(), from.size()); !into.empty();) {
    const ssize_t some = ::writev(in_.get(), left.data(), static_cast<int>(left.size()));
    if (some <= 0 || ::read(out_.get(), into.data(), static_cast<std::size_t>(some)) != some) break;
    into = into.subspan(static_cast<std::size_t>(some));
    left = behind(left, static_cast<std::size_t>(some));
  }
  if (into.empty()) return true;
  close();  // whatever is in the pipe must not be read by the next call
  return false;
}

void CheckedCopy::close() {
  in_.reset();
  out_.reset();
}

Status CheckedCopy::open() {
  if (in_) return Status::ok();
  std::array<int, 2> ends{};
  const NoFork no_fork;
  if (::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK) != 0) return errno_status(Code::kOutOfMemory, "no pipe to copy memory through");
  out_ = Fd(ends[0]);
  in_ = Fd(ends[1]);
  return Status::ok();
}

}  // namespace ray_hixl::transport::stream
