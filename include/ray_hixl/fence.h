// Fence: a place in the work that is queued on a device. It is passed once everything that was queued before it has been done.
#pragma once

#include <functional>
#include <memory>

#include "ray_hixl/status.h"

namespace ray_hixl {

class Fence {
 public:
  Fence() = default;
  virtual ~Fence() = default;
  Fence(const Fence&) = delete;
  Fence& operator=(const Fence&) = delete;
  // Asks the device and never waits for it. True stays true. One thread at a time.
  [[nodiscard]] virtual Result<bool> passed() = 0;
};

// Puts a fence behind what is queued now.
using SetFence = std::function<Result<std::shared_ptr<Fence>>()>;

}  // namespace ray_hixl
