// PrivateMemory: pages of this process alone, in no segment. A fork copies them when one side writes, so they can be given back at once.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ray_hixl/status.h"

namespace ray_hixl::memory {

class PrivateMemory {
 public:
  static constexpr std::uint64_t kPage = 4096;  // what is given back alone begins and ends at a multiple of it
  // Zeroed; pages are taken when they are first touched. kOutOfMemory if so many are not available now. REQUIRES: length > 0, whole pages.
  [[nodiscard]] static Result<std::byte*> take(std::uint64_t length);
  static void give_back(std::byte* address, std::uint64_t length) noexcept;
};

}  // namespace ray_hixl::memory
