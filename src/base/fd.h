// Fd: sole owner of a file descriptor, in one process.
//
// A forked child would keep every descriptor of its parent open: then a dead parent looks alive to its peers, its ports stay taken and its
// memory stays allocated. So the child closes what Fds of the parent own, before fork() returns there. The parent's Fds live on in the
// child's memory and close nothing: their numbers may be somebody else's by then.
#pragma once

#include <cstdint>
#include <utility>

#include "base/fork.h"
#include "ray_hixl/status.h"

namespace ray_hixl {

class Fd {
 public:
  Fd() noexcept = default;
  // Takes a descriptor over; negative: none. A fork between its making and this would leave it open in the child: use make(), or a NoFork
  // around both.
  explicit Fd(int fd) noexcept;
  // What the system call `make` gives: a descriptor, or -1 with the reason in errno.
  template <class Make>
  [[nodiscard]] static Fd make(Make make) {
    const NoFork no_fork;
    return Fd(make());
  }
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)), generation_(other.generation_) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  [[nodiscard]] int release() noexcept;
  void reset() noexcept;
  // A second descriptor of the same open file, close-on-exec.
  [[nodiscard]] Result<Fd> duplicate() const;

 private:
  int fd_ = -1;
  std::uint32_t generation_ = process_generation();
};

// Status of a failed system call: "<what>: <strerror>" with `code`; where descriptors ran out, with their limit instead. Reads errno first.
[[nodiscard]] Status errno_status(Code code, std::string_view what);
// Can this process open one more descriptor? Else kOutOfMemory, as errno_status says it: a descriptor that a peer passes is dropped by the
// kernel then, without an error of its own.
[[nodiscard]] Status check_spare_descriptor(std::string_view what);

}  // namespace ray_hixl
