#include "base/fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace ray_hixl {
namespace {

// A shortage of descriptors is named with its limit: that is what people can change.
std::string describe(int error) {
  if (error == EMFILE) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    return "no file descriptor is left: this process may have " + std::to_string(limit.rlim_cur) +
           " open (ulimit -n). Raise the limit, or close what is not needed";
  }
  if (error == ENFILE) return "this machine has no file descriptor left (sysctl fs.file-max)";
  char text[128] = {};
  return ::strerror_r(error, text, sizeof(text));
}

}  // namespace

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
  return Status(code, std::string(what) + ": " + describe(error));
}

Status check_spare_descriptor(std::string_view what) {
  const Fd spare(::eventfd(0, EFD_CLOEXEC));
  return spare ? Status::ok() : errno_status(Code::kOutOfMemory, what);
}

}  // namespace ray_hixl
