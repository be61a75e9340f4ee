#include "device/fences.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <thread>

#include "device/name.h"

namespace ray_hixl::device {
namespace {

constexpr std::chrono::microseconds kSpin{100};  // what an event takes that nothing is queued before
constexpr std::chrono::microseconds kLongestPause{1000};

}  // namespace

void Pauses::pause() {
  if (Clock::now() - begin_ < kSpin) {
    ::sched_yield();
    return;
  }
  std::this_thread::sleep_for(next_);
  next_ = std::min(2 * next_, kLongestPause);
}

Status busy(std::int32_t device, Clock::time_point since, const std::string& work) {
  std::array<char, 32> seconds{};
  std::snprintf(seconds.data(), seconds.size(), "%.1f s", std::chrono::duration<double>(Clock::now() - since).count());
  return {Code::kDeviceBusy, npu_name(device) + " was busy for " + seconds.data() + " with " + work};
}

Status wait_for(Fence& fence, std::int32_t device, Deadline deadline, const std::string& call, const std::function<Status()>& go_on) {
  const auto since = Clock::now();
  Pauses pauses;
  while (true) {
    const bool is_last = deadline.passed();  // before the look, so that one follows however long this thread did not run
    const Result<bool> passed = fence.passed();
    if (!passed.is_ok()) return passed.status();
    if (*passed) return Status::ok();
    RAY_HIXL_RETURN_IF_ERROR(go_on());
    if (is_last) {
      return busy(device, since,
                  "work that was queued before " + call +
                      " on the same stream; allow more time (the call's timeout, publish_timeout_s), or call where less is queued");
    }
    pauses.pause();
  }
}

}  // namespace ray_hixl::device
