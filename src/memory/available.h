// available_memory: how much more memory this process may take before the kernel ends a process for it.
//
// Shared memory is only counted when its pages are touched, and a page too many is not an error but the end of some process. Who is about
// to touch many pages asks here first.
#pragma once

#include <cstdint>
#include <string>

namespace ray_hixl::memory {

// Bytes: what the machine has available and what the memory cgroups of this process and their parents still grant, whichever is less. The
// largest number if the kernel does not say. An estimate: others allocate at the same time. `root` is put in front of the kernel's paths.
[[nodiscard]] std::uint64_t available_memory(const std::string& root = "");

}  // namespace ray_hixl::memory
