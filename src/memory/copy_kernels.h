// Copy kernels: how bytes are copied within this process. The table has one for each kind of CPU, chosen before the first copy.
//
// What fits the caches is copied by memcpy, and whoever wants it next finds it there. More than that only pushes itself out again, line by
// line, each of which was read before it was written: a streaming kernel stores around the caches. Which order of stores memory likes best
// differs: AMD's like one page after the other, Intel's four pages at once (docs/design.md, 8).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace ray_hixl::memory {

struct CopyKernel {
  const char* name;
  bool (*runs_here)();
  // The ranges do not overlap. Any addresses and lengths, in any thread.
  void (*stream)(std::byte* to, const std::byte* from, std::size_t length);
  // What this thread streamed before is seen by whoever sees what it stores afterwards.
  void (*fence)();
};

// All that were compiled for this kind of CPU, the best ones first; "memcpy", which streams nothing, is the last.
[[nodiscard]] std::span<const CopyKernel> copy_kernels();
// The one of that name, if it runs here; else the first that does and suits this CPU.
[[nodiscard]] const CopyKernel& find_copy_kernel(std::string_view name);
// The one that this process uses: RAY_HIXL_COPY_KERNEL names another one, for tests and measurements.
[[nodiscard]] const CopyKernel& copy_kernel();
// A batch of more bytes is streamed: it does not fit the second-level cache of a core.
[[nodiscard]] std::uint64_t most_cached_bytes();
// Makes both choices, before threads copy that others may fork beside, and tells in the log of a name that means nothing here.
void choose_copying();

}  // namespace ray_hixl::memory
