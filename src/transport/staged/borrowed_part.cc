#include "transport/staged/borrowed_part.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "transport/staged/host_copy.h"

namespace ray_hixl::transport::staged {

std::shared_ptr<BorrowedPart> BorrowedPart::split(std::uint64_t bytes) {
  if (bytes == length) return nullptr;
  auto rest = std::make_shared<BorrowedPart>();
  rest->device = device;
  std::uint64_t before = 0;
  std::vector<Copy> kept;
  for (const Copy& copy : copies) {
    const std::uint64_t here = std::min(copy.length, bytes - before);
    if (here > 0) kept.push_back({copy.to, copy.source, copy.offset, here});
    if (here < copy.length) rest->add({copy.to + here, copy.source, copy.offset + here, copy.length - here});
    before += here;
  }
  copies = std::move(kept);
  length = bytes;
  return rest;
}

std::vector<control::ReadSpan> BorrowedPart::spans() const {
  std::vector<control::ReadSpan> spans;
  spans.reserve(copies.size());
  for (const Copy& copy : copies) spans.push_back({copy.source, copy.offset, copy.length});
  return spans;
}

Status BorrowedPart::find_in(const View& segment, std::uint64_t offset) {
  if (offset > segment->length() || length > segment->length() - offset) {
    return Status(Code::kInternal, "the peer's part lies outside of its segment");
  }
  view = segment;
  at = segment->base() + offset;
  return Status::ok();
}

// Only memory of the caller's may be unmapped, and the kernel takes three times as long to copy there.
Status BorrowedPart::copy_to_host(bool is_callers) const {
  const std::byte* from = at;
  for (const Copy& copy : copies) {
    if (is_callers) {
      RAY_HIXL_RETURN_IF_ERROR(staged::copy_to_host(copy.to, from, copy.length));
    } else {
      std::memcpy(copy.to, from, copy.length);
    }
    from += copy.length;
  }
  return Status::ok();
}

Status BorrowedPart::copy_to_device(device::StagingRuntime& runtime) const {
  const std::byte* from = at;
  for (const Copy& copy : copies) {
    RAY_HIXL_RETURN_IF_ERROR(runtime.to_device(copy.to, from, copy.length));
    from += copy.length;
  }
  return Status::ok();
}

}  // namespace ray_hixl::transport::staged
