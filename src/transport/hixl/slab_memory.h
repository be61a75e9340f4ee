// SlabMemory: where the slabs of an NPU come from: memory in 2 MiB pages, registered before anybody gets any of it.
#pragma once

#include <memory>

#include "device/slabs.h"
#include "transport/hixl/npu.h"

namespace ray_hixl::transport::hixl {

// Its slabs may outlive the NPU's engine as long as there are blocks.
[[nodiscard]] std::unique_ptr<device::SlabSource> slab_memory(const std::shared_ptr<Npu>& npu);

}  // namespace ray_hixl::transport::hixl
