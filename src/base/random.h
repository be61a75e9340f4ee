// Random bytes from the kernel, for incarnations, keys and nonces.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ray_hixl {

// Fills `out` from getrandom(2). Ends the process if the kernel has none: nothing here is safe without it.
void fill_random(std::span<std::byte> out);
[[nodiscard]] std::uint64_t random_u64();

}  // namespace ray_hixl
