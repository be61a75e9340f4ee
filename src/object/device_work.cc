#include "object/device_work.h"

#include <memory>
#include <utility>
#include <vector>

#include "device/fences.h"

namespace ray_hixl {

Status wait_for_devices(EngineImpl& engine, DeviceOps& ops, const std::set<std::int32_t>& devices, Deadline deadline,
                        const std::string& call) {
  std::vector<std::pair<std::int32_t, std::shared_ptr<Fence>>> fences;
  for (const std::int32_t device : devices) {
    Result<std::shared_ptr<Fence>> fence = ops.set_fence(device);
    if (!fence.is_ok()) return fence.status();
    fences.emplace_back(device, *std::move(fence));
  }
  for (const auto& [device, fence] : fences) {
    RAY_HIXL_RETURN_IF_ERROR(device::wait_for(*fence, device, deadline, call, [&] { return engine.check(); }));
  }
  return Status::ok();
}

}  // namespace ray_hixl
