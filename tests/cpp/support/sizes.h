// Sizes that many tests speak of, in bytes.
#pragma once

#include <cstdint>

namespace ray_hixl::test {

inline constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
inline constexpr std::uint64_t kHugePage = 2 * kMiB;

}  // namespace ray_hixl::test
