// What cma does with the kernel: process_vm_readv out of another process of this host and user ("cross-memory attach").
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "transport/pull.h"

namespace ray_hixl::transport::cma {

// Copies out of the memory of process `pid`. kPeerGone once it ended; kInvalidRegion for memory that is not mapped; kNotAvailable where
// the kernel refuses, with what to do about it. Whether the pid is still the peer's is for the link to know.
class CmaMover final : public Mover {
 public:
  explicit CmaMover(pid_t pid) : pid_(pid) {}
  [[nodiscard]] Status move(std::span<const Copy> copies) override;

 private:
  const pid_t pid_;
};

// Random bytes at a known address: who reads them there can read that process, and has the right one.
using Token = std::array<std::byte, 16>;

// ok, or a sentence (kNotAvailable) why the memory of process `pid`, which has `token` at `address`, cannot be read.
[[nodiscard]] Status probe_process(pid_t pid, std::uint64_t address, const Token& token);

}  // namespace ray_hixl::transport::cma
