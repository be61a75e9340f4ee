// Devices: the NPUs that an engine uses, each started when it is first needed. Where there is no NPU nothing happens until somebody asks
// for one, and then the answer says what is missing. Any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "memory/reaper.h"
#include "ray_hixl/options.h"
#include "ray_hixl/status.h"
#include "transport/hixl/device.h"

namespace ray_hixl::transport::hixl {

class Devices {
 public:
  // `allowed`: is hixl among the engine's transports? `loaded` is told when a device was started, and so the libraries that it needs were
  // loaded. Both references outlive it.
  Devices(const Options& options, memory::Reaper& reaper, bool allowed, std::function<void()> loaded);
  ~Devices();  // REQUIRES: stop()
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;

  // The device, started if it was not yet: blocks. kNotAvailable says why there is none.
  [[nodiscard]] Result<std::shared_ptr<Device>> get(std::int32_t index);
  // The device if it was started; never blocks for long.
  [[nodiscard]] std::shared_ptr<Device> find(std::int32_t index) const;
  void for_each(const std::function<void(Device&)>& visit) const;  // of those that were started
  // ok, or why this process cannot use NPUs. Loads CANN.
  [[nodiscard]] Status usable() const;
  [[nodiscard]] std::vector<DeviceStats> stats() const;
  // Ends all of them; get() gives kClosed from then on.
  void stop();

 private:
  [[nodiscard]] std::vector<std::shared_ptr<Device>> started() const;

  const Options& options_;
  memory::Reaper& reaper_;
  const bool allowed_;
  const std::function<void()> loaded_;
  Mutex starting_;  // held while one is started
  mutable Mutex mutex_;
  std::map<std::int32_t, std::shared_ptr<Device>> devices_ RAY_HIXL_GUARDED_BY(mutex_);
  bool stopped_ RAY_HIXL_GUARDED_BY(mutex_) = false;
};

}  // namespace ray_hixl::transport::hixl
