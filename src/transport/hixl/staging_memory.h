// StagingMemory: how CANN's runtime gives pinned host memory and copies between it and an NPU.
#pragma once

#include <memory>

#include "device/staging.h"
#include "transport/hixl/cann/acl.h"

namespace ray_hixl::transport::hixl {

// `acl` outlives it.
[[nodiscard]] std::unique_ptr<device::StagingRuntime> staging_memory(const Acl& acl, std::int32_t npu);

}  // namespace ray_hixl::transport::hixl
