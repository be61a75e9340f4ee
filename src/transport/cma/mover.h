// What cma does with the kernel: process_vm_readv out of another process of this host and user ("cross-memory attach").
#pragma once

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "transport/pull.h"

namespace ray_hixl::transport::cma {

// Copies out of the memory of process `pid`. kPeerGone once it ended; kInvalidRegion for memory that is not mapped, or that the kernel
// reads for its owner only; kNotAvailable where the kernel refuses all of it, with what to do about it. Whether the pid is still the peer's
// is for the link to know.
class CmaMover final : public Mover {
 public:
  using Unreadable = std::function<void(std::uint64_t address)>;

  // `unreadable` is told of an address of the process that could not be read, before move() fails because of it.
  explicit CmaMover(pid_t pid, Unreadable unreadable = [](std::uint64_t) {}) : pid_(pid), unreadable_(std::move(unreadable)) {}
  [[nodiscard]] Status move(std::span<const Copy> copies) override;

 private:
  struct Vectors;
  [[nodiscard]] Status read_all(Vectors& vectors) const;
  [[nodiscard]] Status not_mapped(void* from) const;

  const pid_t pid_;
  const Unreadable unreadable_;
};

// Random bytes at a known address: who reads them there can read that process, and has the right one.
using Token = std::array<std::byte, 16>;

// ok, or a sentence (kNotAvailable) why the memory of process `pid`, which has `token` at `address`, cannot be read.
[[nodiscard]] Status probe_process(pid_t pid, std::uint64_t address, const Token& token);

}  // namespace ray_hixl::transport::cma
