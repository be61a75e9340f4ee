#include "base/fd.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace ray_hixl {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = other.release();
  }
  return *this;
}

void Fd::reset() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Result<Fd> Fd::duplicate() const {
  const int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return errno_status(Code::kOutOfMemory, "cannot duplicate a file descriptor");
  return Fd(copy);
}

Status errno_status(Code code, std::string_view what) {
  const int error = errno;
  char text[128] = {};
  const char* described = ::strerror_r(error, text, sizeof(text));
  return Status(code, std::string(what) + ": " + described);
}

}  // namespace ray_hixl
