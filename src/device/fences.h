// Waiting for fences: never longer than until a deadline, and for nothing that was queued behind the fence.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "base/deadline.h"
#include "ray_hixl/fence.h"
#include "ray_hixl/status.h"

namespace ray_hixl::device {

// The time between two looks at something: none at first, then more each time, up to a millisecond.
class Pauses {
 public:
  void pause();

 private:
  const Clock::time_point begin_ = Clock::now();
  std::chrono::microseconds next_{20};
};

// kDeviceBusy: "npu:0 was busy for 1.0 s with <work>".
[[nodiscard]] Status busy(std::int32_t device, Clock::time_point since, const std::string& work);

// Ok once `fence` is passed. kDeviceBusy says how long the device was busy with what was queued before `call` ("the fetch"). `go_on` is
// asked between two looks, and what it says against it is returned.
[[nodiscard]] Status wait_for(Fence& fence, std::int32_t device, Deadline deadline, const std::string& call,
                              const std::function<Status()>& go_on);

}  // namespace ray_hixl::device
