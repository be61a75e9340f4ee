// RuntimeOps: DeviceOps for users without a framework, by CANN's runtime, on the device's default stream.
#pragma once

#include <span>

#include "device/devices.h"
#include "ray_hixl/objects.h"

namespace ray_hixl {

class RuntimeOps final : public DeviceOps {
 public:
  // `tensors`: the published ones, which must be contiguous to be packed. Both outlive it.
  RuntimeOps(device::Devices& devices, std::span<const SourceTensor> tensors) : devices_(devices), tensors_(tensors) {}

  Result<std::shared_ptr<Fence>> set_fence(std::int32_t device) override;
  Status pack(std::int32_t device, std::span<const Copy> copies) override;
  std::int32_t landing_device(std::int32_t source_device) override;

 private:
  device::Devices& devices_;
  const std::span<const SourceTensor> tensors_;
};

}  // namespace ray_hixl
