#include "memory/free_ranges.h"

#include <iterator>
#include <utility>

namespace ray_hixl::memory {
namespace {

// As many of the first blocks as have at most `most` bytes.
Run run_within(std::span<const std::uint64_t> lengths, std::uint64_t most) {
  Run run;
  while (run.blocks < lengths.size() && lengths[run.blocks] <= most - run.bytes) run.bytes += lengths[run.blocks++];
  return run;
}

}  // namespace

Run first_run(std::span<const std::uint64_t> lengths) {
  return lengths.front() > kRunBytes ? Run{1, lengths.front()} : run_within(lengths, kRunBytes);
}

Run FreeRanges::fitting(std::span<const std::uint64_t> lengths) const {
  if (by_size_.empty()) return {};
  const std::uint64_t largest = by_size_.rbegin()->first;
  const Run wanted = first_run(lengths);
  if (wanted.bytes <= largest) return wanted;
  const Run less = run_within(lengths.first(wanted.blocks), largest);
  return less.bytes >= kLeastRunBytes ? less : Run{};
}

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
  auto next = by_address_.lower_bound(address);
  if (next != by_address_.end() && next->second.segment == segment && address + length == next->first) {
    length += next->second.length;
    erase(next++);
  }
  if (next != by_address_.begin()) {
    const auto before = std::prev(next);
    if (before->second.segment == segment && before->first + before->second.length == address) {
      return resize(before, before->second.length + length);  // without new nodes: blocks that die in order come by here
    }
  }
  by_address_.emplace_hint(next, address, Range{length, segment});
  by_size_.emplace(length, address);
}

void FreeRanges::remove(std::byte* address, std::uint64_t length) {
  auto it = by_address_.lower_bound(address);
  while (it != by_address_.end() && it->first < address + length) erase(it++);
}

void FreeRanges::resize(ByAddress::iterator it, std::uint64_t length) {
  auto node = by_size_.extract({it->second.length, it->first});
  node.value().first = length;
  by_size_.insert(std::move(node));
  it->second.length = length;
}

void FreeRanges::erase(ByAddress::iterator it) {
  by_size_.erase({it->second.length, it->first});
  by_address_.erase(it);
}

}  // namespace ray_hixl::memory
