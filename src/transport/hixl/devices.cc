#include "transport/hixl/devices.h"

#include <utility>

namespace ray_hixl::transport::hixl {

Devices::Devices(const Options& options, memory::Reaper& reaper, bool allowed, std::function<void()> loaded)
    : options_(options), reaper_(reaper), allowed_(allowed), loaded_(std::move(loaded)) {}

Devices::~Devices() = default;

Status Devices::usable() const {
  if (!allowed_) return Status(Code::kNotAvailable, "NPU memory moves by hixl, which Options.transports does not allow; add it there");
  return Cann::get().status();
}

std::shared_ptr<Device> Devices::find(std::int32_t index) const {
  const MutexLock lock(mutex_);
  const auto found = devices_.find(index);
  return found == devices_.end() ? nullptr : found->second;
}

Result<std::shared_ptr<Device>> Devices::get(std::int32_t index) {
  if (auto device = find(index)) return device;
  RAY_HIXL_RETURN_IF_ERROR(usable());
  const MutexLock starting(starting_);
  if (auto device = find(index)) return device;
  {
    const MutexLock lock(mutex_);
    if (stopped_) return Status(Code::kClosed, "the engine was closed; create another one");
  }
  Result<std::shared_ptr<Device>> device = Device::start(*Cann::get(), options_, reaper_, index);
  if (!device.is_ok()) return device.status();
  loaded_();
  const MutexLock lock(mutex_);
  devices_[index] = *device;
  return device;
}

std::vector<std::shared_ptr<Device>> Devices::started() const {
  std::vector<std::shared_ptr<Device>> all;
  const MutexLock lock(mutex_);
  for (const auto& [index, device] : devices_) all.push_back(device);
  return all;
}

void Devices::for_each(const std::function<void(Device&)>& visit) const {
  for (const auto& device : started()) visit(*device);
}

std::vector<DeviceStats> Devices::stats() const {
  std::vector<DeviceStats> all;
  for (const auto& device : started()) all.push_back(device->stats());
  return all;
}

void Devices::stop() {
  {
    const MutexLock starting(starting_);  // one that is being started is stopped, too
    const MutexLock lock(mutex_);
    stopped_ = true;
  }
  for (const auto& device : started()) device->stop();
  const MutexLock lock(mutex_);
  devices_.clear();
}

}  // namespace ray_hixl::transport::hixl
