// The largest single allocation by operator new since reset(). In a file of its own: in one with its callers the compiler takes the
// replaced operators for a mismatch. Single-threaded.
#pragma once

#include <cstddef>

namespace ray_hixl {

void reset_largest_allocation();
[[nodiscard]] std::size_t largest_allocation();

}  // namespace ray_hixl
