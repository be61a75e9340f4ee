#include "object/runtime_ops.h"

#include <string>
#include <vector>

namespace ray_hixl {

Status RuntimeOps::fence(std::int32_t device) {
  const auto used = devices_.get(device);
  return used.is_ok() ? (*used)->synchronize() : used.status();
}

Status RuntimeOps::pack(std::int32_t device, std::span<const Copy> copies) {
  std::vector<transport::hixl::OpDesc> ops;
  ops.reserve(copies.size());
  for (const Copy& copy : copies) {
    const MemoryRange& from = tensors_[copy.tensor].range;
    if (from.address == nullptr) {
      return Status(Code::kInvalidArgument,
                    "tensor " + std::to_string(copy.tensor) + " is not contiguous, which only a framework can pack");
    }
    ops.push_back({reinterpret_cast<std::uintptr_t>(copy.to), reinterpret_cast<std::uintptr_t>(from.address), from.length});
  }
  const auto used = devices_.get(device);
  return used.is_ok() ? (*used)->copy_now(std::move(ops)) : used.status();
}

}  // namespace ray_hixl
