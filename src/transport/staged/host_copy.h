// Copies between host memory that may not be mapped (any more), which published and target memory may become at any time, and buffers: an
// error, and no signal.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ray_hixl/status.h"

namespace ray_hixl::transport::staged {

// kInvalidRegion: the memory is not mapped. kOutOfMemory: there was no descriptor to look with.
[[nodiscard]] Status copy_from_host(std::byte* buffer, const std::byte* memory, std::uint64_t length);
[[nodiscard]] Status copy_to_host(std::byte* memory, const std::byte* buffer, std::uint64_t length);

}  // namespace ray_hixl::transport::staged
