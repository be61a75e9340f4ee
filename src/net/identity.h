// Who and where a process is: what decides which transports two processes can use.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/fd.h"
#include "ray_hixl/status.h"

namespace ray_hixl::net {

struct HostIdentity {
  std::array<std::byte, 16> boot_id{};  // /proc/sys/kernel/random/boot_id: same boot = same host
  std::uint64_t pid_namespace = 0;      // inode of /proc/self/ns/pid
  std::uint64_t network_namespace = 0;  // inode of /proc/self/ns/net: abstract socket names are seen within one
  std::uint32_t pid = 0;                // in its own namespace
  std::uint32_t uid = 0;                // effective
};

[[nodiscard]] Result<HostIdentity> this_process();

// A process that cannot be mistaken for another one that got its pid later.
class ProcessWatch {
 public:
  // kPeerGone if there is none; kNotAvailable where the kernel has no pidfd_open; kOutOfMemory if no descriptor is left.
  [[nodiscard]] static Result<ProcessWatch> open(std::uint32_t pid);
  // The process at the other end of a connected Unix socket: it was `pid` when it connected, or listened.
  [[nodiscard]] static Result<ProcessWatch> open_peer(const Fd& socket, std::uint32_t pid);
  [[nodiscard]] bool alive() const;                      // any thread; one system call
  [[nodiscard]] int fd() const { return pidfd_.get(); }  // readable when the process ended

 private:
  explicit ProcessWatch(Fd pidfd) : pidfd_(std::move(pidfd)) {}
  Fd pidfd_;
};

}  // namespace ray_hixl::net
