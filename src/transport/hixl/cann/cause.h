// Cause: what keeps HIXL from starting, or from linking. It answers one status (503900) for nearly all of it; the text tells more.
#pragma once

#include <cstdint>

#include "transport/hixl/cann/hixl.h"

namespace ray_hixl::transport::hixl {

enum class Cause : std::uint8_t {
  kPort,
  kNoDeviceIp,
  kKernels,
  kResources,  // memory, streams or queues of the device or its NIC
  kAbsent,     // nobody listens there
  kUnknown
};

// Of an outcome that is not ok.
[[nodiscard]] Cause cause_of(const Outcome& outcome);

}  // namespace ray_hixl::transport::hixl
