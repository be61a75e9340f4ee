#include "transport/slices.h"

#include <algorithm>
#include <string>
#include <utility>

namespace ray_hixl::transport {

Slices::Slices(std::shared_ptr<const memory::SlotContent> content) : content_(std::move(content)) {
  starts_.reserve(content_->ranges.size());
  std::uint64_t start = 0;
  for (const MemoryRange& range : content_->ranges) {
    starts_.push_back(start);
    start += range.length;
  }
}

Status Slices::check(std::uint64_t offset, std::uint64_t length) const {
  if (offset <= content_->length && length <= content_->length - offset) return Status::ok();
  return Status(Code::kInvalidRegion, std::to_string(length) + " bytes at offset " + std::to_string(offset) + " lie outside of the " +
                                          std::to_string(content_->length) + " bytes registered");
}

Slices::Slice Slices::at(std::uint64_t offset, std::uint64_t most) const {
  // Behind ranges of no length that start there, too.
  const auto next = std::ranges::upper_bound(starts_, offset);
  const auto index = static_cast<std::size_t>(next - starts_.begin()) - 1;
  const MemoryRange& range = content_->ranges[index];
  const std::uint64_t skipped = offset - starts_[index];
  return {range.address + skipped, std::min(most, range.length - skipped)};
}

}  // namespace ray_hixl::transport
