// Fd: sole owner of a file descriptor.
#pragma once

#include <utility>

#include "ray_hixl/status.h"

namespace ray_hixl {

class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  void reset() noexcept;
  // A second descriptor of the same open file, close-on-exec.
  [[nodiscard]] Result<Fd> duplicate() const;

 private:
  int fd_ = -1;
};

// Status of a failed system call: "<what>: <strerror>" with `code`; where descriptors ran out, with their limit instead. Reads errno first.
[[nodiscard]] Status errno_status(Code code, std::string_view what);
// Can this process open one more descriptor? Else kOutOfMemory, as errno_status says it: a descriptor that a peer passes is dropped by the
// kernel then, without an error of its own.
[[nodiscard]] Status check_spare_descriptor(std::string_view what);

}  // namespace ray_hixl
