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
  return Status::ok();
}

Status Slices::check_host(std::uint64_t offset, std::uint64_t length) const {
  RAY_HIXL_RETURN_IF_ERROR(check(offset, length));
  if (!first_device(offset, length)) return Status::ok();
  return Status(Code::kInvalidRegion, "some of " + std::to_string(length) + " bytes at offset " + std::to_string(offset) +
                                          " lie in device memory, which only hixl and staged read");
}

std::optional<std::int32_t> Slices::first_device(std::uint64_t offset, std::uint64_t length) const {
  if (!content_->has_device_memory || length == 0) return std::nullopt;
  for (std::size_t i = memory::range_at(content_->starts, offset); i < content_->starts.size() && content_->starts[i] < offset + length;
       ++i) {
    if (content_->ranges[i].kind == MemoryKind::kDevice && content_->ranges[i].length != 0) return content_->ranges[i].device;
  }
  return std::nullopt;
}

MemoryRange Slices::at(std::uint64_t offset, std::uint64_t most) const {
  const std::size_t index = memory::range_at(content_->starts, offset);
  const MemoryRange& range = content_->ranges[index];
  const std::uint64_t skipped = offset - content_->starts[index];
  return {range.address + skipped, std::min(most, range.length - skipped), range.kind, range.device};
}

}  // namespace ray_hixl::transport
