#include "transport/slices.h"

#include <algorithm>
#include <string>
#include <utility>

namespace ray_hixl::transport {

Status Slices::check(std::uint64_t offset, std::uint64_t length) const {
  if (offset > content_->length || length > content_->length - offset) {
    return Status(Code::kInvalidRegion, std::to_string(length) + " bytes at offset " + std::to_string(offset) + " lie outside of the " +
                                            std::to_string(content_->length) + " bytes registered");
  }
  if (!content_->has_device_memory || length == 0) return Status::ok();
  for (std::size_t i = range_at(offset); i < content_->starts.size() && content_->starts[i] < offset + length; ++i) {
    if (content_->ranges[i].kind != MemoryKind::kDevice) continue;
    return Status(Code::kInvalidRegion, "bytes at offset " + std::to_string(offset) + " lie in device memory, which only hixl reads");
  }
  return Status::ok();
}

// Behind ranges of no length that start there, too.
std::size_t Slices::range_at(std::uint64_t offset) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(content_->starts, offset) - content_->starts.begin()) - 1;
}

Slices::Slice Slices::at(std::uint64_t offset, std::uint64_t most) const {
  const std::size_t index = range_at(offset);
  const MemoryRange& range = content_->ranges[index];
  const std::uint64_t skipped = offset - content_->starts[index];
  return {range.address + skipped, std::min(most, range.length - skipped)};
}

}  // namespace ray_hixl::transport
