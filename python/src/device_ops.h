// TorchOps: what publish and fetch ask of torch, by way of ray_hixl/npu.py, which runs every torch operation on npu tensors.
#pragma once

#include <memory>
#include <span>

#include "common.h"

namespace ray_hixl::python {

// Calls a function of ray_hixl.npu, which is imported at first use. Needs the GIL. kNotAvailable (as its Python error) where there is no
// torch_npu.
nb::object call_npu(const char* function, const nb::tuple& arguments);

// Takes the GIL for each call, so it is used without it. A Python error becomes the Status that it stands for.
class TorchOps final : public DeviceOps {
 public:
  // `tensors`: a list of what is published, in order; outlives it. Null where nothing is.
  explicit TorchOps(nb::handle tensors = {}) : tensors_(tensors) {}

  Result<std::shared_ptr<Fence>> set_fence(std::int32_t device) override;
  Status pack(std::int32_t device, std::span<const Copy> copies) override;
  std::int32_t landing_device(std::int32_t source_device) override;

 private:
  const nb::handle tensors_;
};

}  // namespace ray_hixl::python
