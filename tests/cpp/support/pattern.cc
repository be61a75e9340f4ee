#include "support/pattern.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace ray_hixl::test {
namespace {

using Chunk = std::array<std::byte, 4096>;

#ifdef __clang__
#define NOT_SANITIZED __attribute__((no_sanitize("thread", "address", "undefined")))
#else
#define NOT_SANITIZED [[gnu::no_sanitize("thread", "address", "undefined")]]
#endif

// Memory that is looked at is touched by memcpy and memcmp alone, which sanitizers check as a whole; this is arithmetic.
NOT_SANITIZED void make_chunk(Chunk& chunk, std::uint64_t seed, std::uint64_t first) {
  for (std::size_t i = 0; i < chunk.size(); ++i) chunk[i] = pattern_byte(seed, first + i);
}

}  // namespace

void fill_pattern(std::span<std::byte> bytes, std::uint64_t seed) {
  Chunk chunk;
  for (std::size_t done = 0; done < bytes.size(); done += chunk.size()) {
    make_chunk(chunk, seed, done);
    std::memcpy(bytes.data() + done, chunk.data(), std::min(chunk.size(), bytes.size() - done));
  }
}

std::vector<std::byte> make_pattern(std::size_t size, std::uint64_t seed) {
  std::vector<std::byte> bytes(size);
  fill_pattern(bytes, seed);
  return bytes;
}

bool is_pattern(std::span<const std::byte> bytes, std::uint64_t seed, std::uint64_t first) {
  Chunk chunk;
  for (std::size_t done = 0; done < bytes.size(); done += chunk.size()) {
    make_chunk(chunk, seed, first + done);
    if (std::memcmp(bytes.data() + done, chunk.data(), std::min(chunk.size(), bytes.size() - done)) != 0) return false;
  }
  return true;
}

}  // namespace ray_hixl::test
