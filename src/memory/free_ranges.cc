#include "memory/free_ranges.h"

#include <iterator>

namespace ray_hixl::memory {

FreeRanges::Taken FreeRanges::take(std::uint64_t length) {
  const auto fit = by_size_.lower_bound({length, nullptr});
  if (fit == by_size_.end()) return {};
  const auto it = by_address_.find(fit->second);
  std::byte* const address = it->first;
  const Range range = it->second;
  erase(it);
  if (range.length > length) add(address + length, range.length - length, range.segment);
  return {address, range.segment};
}

void FreeRanges::add(std::byte* address, std::uint64_t length, std::uint32_t segment) {
  const auto next = by_address_.lower_bound(address);
  if (next != by_address_.begin()) {
    const auto before = std::prev(next);
    if (before->second.segment == segment && before->first + before->second.length == address) {
      address = before->first;
      length += before->second.length;
      erase(before);
    }
  }
  if (next != by_address_.end() && next->second.segment == segment && address + length == next->first) {
    length += next->second.length;
    erase(next);
  }
  by_address_.emplace(address, Range{length, segment});
  by_size_.emplace(length, address);
}

void FreeRanges::remove(std::byte* address, std::uint64_t length) {
  auto it = by_address_.lower_bound(address);
  while (it != by_address_.end() && it->first < address + length) erase(it++);
}

void FreeRanges::erase(ByAddress::iterator it) {
  by_size_.erase({it->second.length, it->first});
  by_address_.erase(it);
}

}  // namespace ray_hixl::memory
