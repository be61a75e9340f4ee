// Counters as Python sees them. Needs the GIL.
#pragma once

#include <vector>

#include "common.h"

namespace ray_hixl::python {

[[nodiscard]] nb::dict to_dict(const std::vector<TransportBytes>& counts);
[[nodiscard]] nb::dict to_dict(const Stats& stats);

}  // namespace ray_hixl::python
