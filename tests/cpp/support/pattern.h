// Bytes that tell where they belong: a wrong offset, a wrong source or a gap shows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ray_hixl::test {

inline std::byte pattern_byte(std::uint64_t seed, std::uint64_t index) {
  return static_cast<std::byte>((index * 31) ^ ((index >> 8) * 17) ^ ((index >> 16) * 5) ^ (seed * 101 + 7));
}

void fill_pattern(std::span<std::byte> bytes, std::uint64_t seed);
std::vector<std::byte> make_pattern(std::size_t size, std::uint64_t seed);

// Are these the pattern's bytes from `first` on?
bool is_pattern(std::span<const std::byte> bytes, std::uint64_t seed, std::uint64_t first = 0);

}  // namespace ray_hixl::test
