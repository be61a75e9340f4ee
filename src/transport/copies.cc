#include "transport/copies.h"

#include <algorithm>
#include <utility>

namespace ray_hixl::transport {
namespace {

// What a part costs at most, in bytes: a millisecond of a slow machine, so that deadlines and stops are prompt.
constexpr std::uint64_t kPartCost = std::uint64_t{4} << 20;

// In place.
void join_neighbours(std::vector<Copy>& copies) {
  std::size_t last = 0;
  for (std::size_t i = 1; i < copies.size(); ++i) {
    Copy& before = copies[last];
    const Copy& copy = copies[i];
    if (before.to + before.length == copy.to && before.from + before.length == copy.from) {
      before.length += copy.length;
    } else {
      copies[++last] = copy;
    }
  }
  if (!copies.empty()) copies.resize(last + 1);
}

// Each thread gets as many parts as the others. Where a part ends, a copy becomes two, or the rest is less than a copy costs.
std::uint64_t even_part_cost(std::uint64_t cost, std::size_t threads, std::uint64_t copy_cost) {
  const std::uint64_t fewest = cost / kPartCost + 1;
  const std::uint64_t parts = (fewest + threads - 1) / threads * threads;
  return cost / parts + 1 + 2 * copy_cost;
}

}  // namespace

Copies::Copies(std::vector<Copy> whole, std::size_t threads, std::uint64_t copy_cost) {
  join_neighbours(whole);
  for (const Copy& copy : whole) bytes_ += copy.length;
  if (bytes_ <= kOneThreadBytes) threads = 1;
  cut(whole, even_part_cost(bytes_ + whole.size() * copy_cost, threads, copy_cost), copy_cost);
}

void Copies::cut(std::span<const Copy> whole, std::uint64_t part_cost, std::uint64_t copy_cost) {
  copies_.reserve(whole.size() + bytes_ / part_cost + 1);
  starts_.push_back(0);
  std::uint64_t left = part_cost;  // of the last part
  for (Copy rest : whole) {
    while (rest.length > 0) {
      if (left <= copy_cost) {
        starts_.push_back(copies_.size());
        left = part_cost;
      }
      const std::uint64_t length = std::min(rest.length, left - copy_cost);
      copies_.push_back({rest.to, rest.from, length});
      rest = {rest.to + length, rest.from + length, rest.length - length};
      left -= copy_cost + length;
    }
  }
  if (starts_.back() != copies_.size()) starts_.push_back(copies_.size());
}

}  // namespace ray_hixl::transport
