#include "hixl/device_hold.h"

#include <cstdint>
#include <mutex>
#include <vector>

#include "hixl/slots.h"

namespace fake_hixl {
namespace {

constexpr Status kNoDeviceMemory = 207018;  // of the runtime

struct LeftBehind {
  std::mutex mutex;
  std::vector<std::unique_ptr<DeviceHold>> holds;  // guarded by mutex
};

}  // namespace

Status DeviceHold::take(int device, long slots, std::unique_ptr<DeviceHold>& hold) {
  if (const Status status = attach_slots(device, slots); status != hixl::kSuccess) return status;
  auto flag = HugeBlock::take(device, sizeof(std::int64_t));
  if (flag == nullptr) {
    detach_slots(device);
    return fail(kNoDeviceMemory, "Initialize: the device has no memory for a flag");
  }
  hold.reset(new DeviceHold(device, std::move(flag)));
  return hixl::kSuccess;
}

DeviceHold::~DeviceHold() { detach_slots(device_); }

void leave_behind(std::unique_ptr<DeviceHold> hold) {
  static LeftBehind& left = *new LeftBehind;
  const std::lock_guard lock(left.mutex);
  left.holds.push_back(std::move(hold));
}

}  // namespace fake_hixl
