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
  for (std::size_t i = memory::range_at(content_->starts, offset); i < content_->starts.size() && content_->starts[i] < offset + length;
       ++i) {
    if (content_->ranges[i].kind != MemoryKind::kDevice) continue;
    return Status(Code::kInvalidRegion, "bytes at offset " + std::to_string(offset) + " lie in device memory, which only hixl reads");
  }
  return Status::ok();
}

Slices::Slice Slices::at(std::uint64_t offset, std::uint64_t most) const {
  const std::size_t index = memory::range_at(content_->starts, offset);
  const MemoryRange& range = content_->ranges[index];
  const std::uint64_t skipped = offset - content_->starts[index];
  return {range.address + skipped, std::min(most, range.length - skipped)};
}

}  // namespace ray_hixl::transport
