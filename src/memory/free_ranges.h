// FreeRanges: the unused parts of an arena's segments, found by size and merged with their neighbours.
//
// Not synchronised: the arena's lock guards it. Every operation takes O(log n) steps in the number of ranges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <utility>

namespace ray_hixl::memory {

// Blocks that are taken side by side, since few long copies are faster than many short ones, and die one by one.
struct Run {
  std::size_t blocks = 0;
  std::uint64_t bytes = 0;
};
inline constexpr std::uint64_t kRunBytes = std::uint64_t{8} << 20;         // no run of several blocks is longer
inline constexpr std::uint64_t kLeastRunBytes = std::uint64_t{256} << 10;  // for less of a longer list no gap between live blocks is filled

// The blocks of these lengths that make the first run, as far as space goes. REQUIRES: there is one.
[[nodiscard]] Run first_run(std::span<const std::uint64_t> lengths);

class FreeRanges {
 public:
  struct Taken {
    std::byte* address = nullptr;  // null if no range is large enough
    std::uint32_t segment = 0;
  };

  // Cuts `length` bytes off the smallest range that has them.
  [[nodiscard]] Taken take(std::uint64_t length);
  // What take() has room for: the first run of these blocks, else as much of it as goes into the largest range, from kLeastRunBytes on;
  // else none. REQUIRES: there is one.
  [[nodiscard]] Run fitting(std::span<const std::uint64_t> lengths) const;
  // REQUIRES: no byte of it is here yet. Merges with neighbours of the same segment; segments may lie side by side.
  void add(std::byte* address, std::uint64_t length, std::uint32_t segment);
  // Every range that begins in these bytes.
  void remove(std::byte* address, std::uint64_t length);
  [[nodiscard]] std::size_t size() const { return by_address_.size(); }

 private:
  struct Range {
    std::uint64_t length;
    std::uint32_t segment;
  };
  using ByAddress = std::map<std::byte*, Range>;
  void erase(ByAddress::iterator it);
  void resize(ByAddress::iterator it, std::uint64_t length);

  ByAddress by_address_;
  std::set<std::pair<std::uint64_t, std::byte*>> by_size_;
};

}  // namespace ray_hixl::memory
