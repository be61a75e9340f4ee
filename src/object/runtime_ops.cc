#include "object/runtime_ops.h"

#include <string>
#include <vector>

namespace ray_hixl {

Result<std::shared_ptr<Fence>> RuntimeOps::set_fence(std::int32_t device) {
  const auto used = devices_.get(device);
  return used.is_ok() ? (*used)->set_fence() : used.status();
}

std::int32_t RuntimeOps::landing_device(std::int32_t source_device) { return source_device < devices_.visible() ? source_device : 0; }

Status RuntimeOps::pack(std::int32_t device, std::span<const Copy> copies) {
  std::vector<device::Copy> moved;
  moved.reserve(copies.size());
  for (const Copy& copy : copies) {
    const MemoryRange& from = tensors_[copy.tensor].range;
    if (from.address == nullptr) {
      return Status(Code::kInvalidArgument,
                    "tensor " + std::to_string(copy.tensor) + " is not contiguous, which only a framework can pack");
    }
    moved.push_back({copy.to, from.address, from.length});
  }
  const auto used = devices_.get(device);
  return used.is_ok() ? (*used)->copy(moved) : used.status();
}

}  // namespace ray_hixl
