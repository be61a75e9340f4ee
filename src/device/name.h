// What devices are called in errors and logs.
#pragma once

#include <cstdint>
#include <string>

#include "ray_hixl/status.h"

namespace ray_hixl::device {

// "npu:0"
[[nodiscard]] inline std::string npu_name(std::int32_t index) { return "npu:" + std::to_string(index); }

// Of one that its engine has let go of.
[[nodiscard]] inline Status npu_closed(std::int32_t index) { return Status(Code::kClosed, npu_name(index) + " was closed"); }

}  // namespace ray_hixl::device
