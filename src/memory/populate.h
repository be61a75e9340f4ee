// populate: fills a fresh mapping of shared memory with pages, so that using it neither faults nor fails.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/fd.h"
#include "ray_hixl/status.h"

namespace ray_hixl::memory {

// Takes all pages of `length` bytes at `base`, the shared writable mapping of `fd` from its first byte, which nobody uses yet. Large
// mappings with several threads, since the kernel clears pages at less than a third of the speed of memory. kOutOfMemory says how much was
// asked for.
[[nodiscard]] Status populate(const Fd& fd, std::byte* base, std::uint64_t length);

}  // namespace ray_hixl::memory
