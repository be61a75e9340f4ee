// Parts: what is staged goes through buffers of device::Staging, a part through each. What all who cut into parts have in common.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "transport/job.h"

namespace ray_hixl::transport::staged {

inline constexpr std::size_t kMostRanges = 512;  // of a part, or of what is done in one go: a copy each
inline constexpr std::int32_t kHost = -1;        // in place of a device

// Where the piece is to go: a device, or kHost.
[[nodiscard]] inline std::int32_t device_of(const Job& job, const Piece& piece) {
  return piece.place < 0 ? kHost : std::max(kHost, job.plan->places[static_cast<std::size_t>(piece.place)].local);
}

}  // namespace ray_hixl::transport::staged
