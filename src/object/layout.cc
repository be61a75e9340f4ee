#include "object/layout.h"

#include <algorithm>
#include <limits>
#include <string>

#include "object/element_types.h"

namespace ray_hixl {
namespace {

Status bad_layout(std::size_t index, const std::string& what) {
  return Status(Code::kInvalidArgument, "layout " + std::to_string(index) + ": " + what);
}

std::optional<std::uint64_t> checked_elements(const Layout& layout) {
  if (std::find(layout.shape.begin(), layout.shape.end(), 0) != layout.shape.end()) return 0;
  std::uint64_t elements = 1;
  for (const std::uint64_t dimension : layout.shape) {
    if (__builtin_mul_overflow(elements, dimension, &elements)) return std::nullopt;
  }
  return elements;
}

}  // namespace

std::optional<std::uint64_t> checked_bytes(const Layout& layout) {
  const std::optional<std::uint64_t> elements = checked_elements(layout);
  std::uint64_t bytes = 0;
  if (!elements || __builtin_mul_overflow(*elements, std::uint64_t{layout.item_bytes}, &bytes)) return std::nullopt;
  return bytes;
}

std::uint64_t Layout::elements() const { return checked_elements(*this).value_or(std::numeric_limits<std::uint64_t>::max()); }
std::uint64_t Layout::bytes() const { return checked_bytes(*this).value_or(std::numeric_limits<std::uint64_t>::max()); }

Status check_layouts(std::span<const Layout> layouts) {
  if (layouts.size() > kMostTensors)
    return Status(Code::kInvalidArgument, "an object has at most " + std::to_string(kMostTensors) + " layouts");
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    const Layout& layout = layouts[i];
    const bool printable = std::ranges::all_of(layout.dtype, [](char c) { return c > ' ' && c <= '~'; });
    if (layout.dtype.empty() || layout.dtype.size() > kLongestTypeName || !printable)
      return bad_layout(i, "the name of an element type has 1 to 63 bytes, all printable");
    if (layout.item_bytes == 0 || layout.item_bytes > kLargestItem) {
      return bad_layout(i, "an element has 1 to " + std::to_string(kLargestItem) + " bytes, not " + std::to_string(layout.item_bytes));
    }
    if (const auto known = known_item_bytes(layout.dtype); known && *known != layout.item_bytes) {
      return bad_layout(
          i, "an element of type " + layout.dtype + " has " + std::to_string(*known) + " bytes, not " + std::to_string(layout.item_bytes));
    }
    if (layout.shape.size() > kMostDimensions)
      return bad_layout(i, "a tensor has at most 64 dimensions, not " + std::to_string(layout.shape.size()));
    if (!checked_bytes(layout)) return bad_layout(i, "its size in bytes does not fit 64 bits");
  }
  return Status::ok();
}

Result<std::uint64_t> check_runs(std::span<const Layout> layouts, std::span<const Metadata::Run> runs) {
  std::uint64_t tensors = 0;
  std::uint64_t total = 0;
  for (const Metadata::Run& run : runs) {
    if (run.layout >= layouts.size() || run.count == 0)
      return Status(Code::kInvalidArgument, "a run of tensors is empty or names no layout");
    if (run.count > kMostTensors - tensors) {
      return Status(Code::kInvalidArgument, "an object has at most " + std::to_string(kMostTensors) + " tensors");
    }
    tensors += run.count;
    std::uint64_t bytes = 0;
    if (__builtin_mul_overflow(run.count, layouts[run.layout].bytes(), &bytes) || bytes > kMostBytes - total) {
      return Status(Code::kInvalidArgument, "an object has at most 2^62 bytes");
    }
    total += bytes;
  }
  return total;
}

}  // namespace ray_hixl
