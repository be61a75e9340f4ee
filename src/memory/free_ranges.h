// FreeRanges: the unused parts of an arena's segments, found by size and merged with their neighbours.
//
// Not synchronised: the arena's lock guards it. Every operation takes O(log n) steps in the number of ranges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <utility>

namespace ray_hixl::memory {

class FreeRanges {
 public:
  struct Taken {
    std::byte* address = nullptr;  // null if no range is large enough
    std::uint32_t segment = 0;
  };

  // Cuts `length` bytes off the smallest range that has them.
  [[nodiscard]] Taken take(std::uint64_t length);
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

  ByAddress by_address_;
  std::set<std::pair<std::uint64_t, std::byte*>> by_size_;
};

}  // namespace ray_hixl::memory
