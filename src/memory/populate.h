// populate: fills a fresh mapping of shared memory with pages, so that using it neither faults nor fails; with huge ones where it can.
//
// A copy out of 4 KiB pages of shared memory that were not used for a moment takes several times as long in a virtual machine, since each
// has to be looked up by its hypervisor, too. The kernel gives shared memory huge pages on request, whatever the settings of the machine
// say (MADV_COLLAPSE, Linux 6.1): one page is taken, and the kernel makes a huge page of it and of the 511 that are missing. That is
// several times faster than taking 512. Where it is refused (an older kernel, no 2 MiB in one piece) there are 4 KiB pages, for good.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/fd.h"
#include "ray_hixl/status.h"

namespace ray_hixl::memory {

// Takes all pages of `length` bytes at `base`, the shared writable mapping of `fd` from its first byte, which nobody uses yet. Large
// mappings with several threads, since the kernel clears pages at less than a third of the speed of memory. Returns how many of the bytes
// the kernel said to have put into huge pages. kOutOfMemory says how much was asked for. REQUIRES: whole huge pages, aligned to them.
[[nodiscard]] Result<std::uint64_t> populate(const Fd& fd, std::byte* base, std::uint64_t length);

inline constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;

}  // namespace ray_hixl::memory
