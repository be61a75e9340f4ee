// round_up: to whole steps.
#pragma once

#include <cstdint>

namespace ray_hixl {

// The next multiple of `step`, which need not be a power of two. REQUIRES: that it fits 64 bits, step > 0.
[[nodiscard]] constexpr std::uint64_t round_up(std::uint64_t bytes, std::uint64_t step) { return (bytes + step - 1) / step * step; }

}  // namespace ray_hixl
