#include "base/fd.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
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

// The descriptors that Fds of this process own, one bit for each number. Without a lock, so that a forked child can read it whatever other
// threads were at; it costs no memory but for the pages that are used. Linux hands out no more than these unless fs.nr_open was raised.
class OwnedFds {
 public:
  static constexpr int kMost = 1 << 20;

  void add(int fd) noexcept { word(fd).fetch_or(bit(fd), std::memory_order_relaxed); }
  void remove(int fd) noexcept { word(fd).fetch_and(~bit(fd), std::memory_order_relaxed); }

  void close_all() noexcept {
    for (std::size_t i = 0; i < words_.size(); ++i) {
      if (words_[i].load(std::memory_order_relaxed) == 0) continue;  // so that pages which nobody used stay so
      std::uint64_t owned = words_[i].exchange(0, std::memory_order_relaxed);
      for (; owned != 0; owned &= owned - 1) ::close(static_cast<int>(i * 64) + std::countr_zero(owned));
    }
  }

 private:
  std::atomic<std::uint64_t>& word(int fd) noexcept { return words_[static_cast<std::size_t>(fd) / 64]; }
  static std::uint64_t bit(int fd) noexcept { return std::uint64_t{1} << (static_cast<unsigned>(fd) % 64); }

  std::array<std::atomic<std::uint64_t>, kMost / 64> words_{};
};

constinit OwnedFds owned_fds;

const bool kClosedInChild = on_fork(nullptr, nullptr, [] { owned_fds.close_all(); });

}  // namespace

Fd::Fd(int fd) noexcept : fd_(fd) {
  if (fd_ < 0) return;
  if (fd_ < OwnedFds::kMost) {
    owned_fds.add(fd_);
  } else {
    ::close(std::exchange(fd_, -1));  // as if the limit of this process were lower
    errno = EMFILE;
  }
}

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
    generation_ = other.generation_;
  }
  return *this;
}

int Fd::release() noexcept {
  if (fd_ >= 0 && generation_ == process_generation()) owned_fds.remove(fd_);
  return std::exchange(fd_, -1);
}

void Fd::reset() noexcept {
  const int fd = std::exchange(fd_, -1);
  if (fd < 0 || generation_ != process_generation()) return;
  const NoFork no_fork;  // or a child would keep it, or close what took its number
  owned_fds.remove(fd);
  ::close(fd);
}

Result<Fd> Fd::duplicate() const {
  Fd copy = make([this] { return ::fcntl(fd_, F_DUPFD_CLOEXEC, 0); });
  if (!copy) return errno_status(Code::kOutOfMemory, "cannot duplicate a file descriptor");
  return copy;
}

Status errno_status(Code code, std::string_view what) {
  const int error = errno;
  return Status(code, std::string(what) + ": " + describe(error));
}

Status check_spare_descriptor(std::string_view what) {
  const Fd spare = Fd::make([] { return ::eventfd(0, EFD_CLOEXEC); });
  return spare ? Status::ok() : errno_status(Code::kOutOfMemory, what);
}

}  // namespace ray_hixl
