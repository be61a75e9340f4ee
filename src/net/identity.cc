#include "net/identity.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <string>

namespace ray_hixl::net {
namespace {

constexpr int kPeerPidfd = 77;  // SO_PEERPIDFD, which older headers do not have

// "9f3c…-…" to 16 bytes.
Result<std::array<std::byte, 16>> read_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  file >> text;
  std::array<std::byte, 16> id{};
  std::size_t digits = 0;
  for (const char c : text) {
    if (c == '-') continue;
    const int value = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (value < 0 || digits >= 32) break;
    id[digits / 2] = id[digits / 2] << 4 | static_cast<std::byte>(value);
    ++digits;
  }
  if (digits == 32) return id;
  return Status(Code::kNotAvailable, "cannot read this host's boot id from /proc/sys/kernel/random/boot_id");
}

Result<std::uint64_t> namespace_inode(const char* path) {
  struct stat info {};
  if (::stat(path, &info) != 0) return errno_status(Code::kNotAvailable, std::string("cannot look at ") + path);
  return static_cast<std::uint64_t>(info.st_ino);
}

}  // namespace

Result<HostIdentity> this_process() {
  HostIdentity identity;
  const auto boot_id = read_boot_id();
  if (!boot_id.is_ok()) return boot_id.status();
  const auto pid_namespace = namespace_inode("/proc/self/ns/pid");
  if (!pid_namespace.is_ok()) return pid_namespace.status();
  const auto network_namespace = namespace_inode("/proc/self/ns/net");
  if (!network_namespace.is_ok()) return network_namespace.status();
  identity.boot_id = *boot_id;
  identity.pid_namespace = *pid_namespace;
  identity.network_namespace = *network_namespace;
  identity.pid = static_cast<std::uint32_t>(::getpid());
  identity.uid = static_cast<std::uint32_t>(::geteuid());
  return identity;
}

Result<ProcessWatch> ProcessWatch::open(std::uint32_t pid) {
  Fd fd = Fd::make([pid] { return static_cast<int>(::syscall(SYS_pidfd_open, static_cast<pid_t>(pid), 0u)); });
  if (fd) return ProcessWatch(std::move(fd));
  const bool ran_out = errno == EMFILE || errno == ENFILE;
  const Code code = errno == ESRCH ? Code::kPeerGone : ran_out ? Code::kOutOfMemory : Code::kNotAvailable;
  return errno_status(code, "cannot watch process " + std::to_string(pid));
}

Result<ProcessWatch> ProcessWatch::open_peer(const Fd& socket, std::uint32_t pid) {
  Fd pidfd = Fd::make([&socket] {
    int fd = -1;
    socklen_t length = sizeof(fd);
    return ::getsockopt(socket.get(), SOL_SOCKET, kPeerPidfd, &fd, &length) == 0 ? fd : -1;
  });
  if (pidfd) return ProcessWatch(std::move(pidfd));
  return open(pid);  // before Linux 6.5; there, another process may have got the pid meanwhile
}

bool ProcessWatch::alive() const {
  pollfd poll_fd{pidfd_.get(), POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&poll_fd, 1, 0);
  } while (ready < 0 && errno == EINTR);  // a signal says nothing about the peer
  return ready == 0;
}

}  // namespace ray_hixl::net
