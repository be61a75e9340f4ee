// Devices: the NPUs that an engine uses, each started when it is first needed. Where there is none nothing happens until somebody asks for
// one, and then the answer says what is missing. Any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "device/device.h"
#include "ray_hixl/stats.h"
#include "ray_hixl/status.h"

namespace ray_hixl::device {

class Devices {
 public:
  Devices() = default;
  virtual ~Devices() = default;  // REQUIRES: stop()
  Devices(const Devices&) = delete;
  Devices& operator=(const Devices&) = delete;

  // ok, or why this process cannot use NPUs. Loads their runtime.
  [[nodiscard]] virtual Status usable() const = 0;
  // How many this process sees: they are numbered from 0. REQUIRES: usable().
  [[nodiscard]] virtual std::int32_t visible() const = 0;
  // The device, started if it was not yet: blocks. kNotAvailable says why there is none; kClosed after stop().
  [[nodiscard]] virtual Result<std::shared_ptr<Device>> get(std::int32_t index) = 0;
  // The device if it was started; never blocks for long.
  [[nodiscard]] virtual std::shared_ptr<Device> find(std::int32_t index) const = 0;
  // The device that has pinned all these bytes of host memory, if HIXL knows them.
  [[nodiscard]] virtual std::optional<std::int32_t> pinned_by(const std::byte* address, std::uint64_t length) const = 0;
  [[nodiscard]] virtual std::vector<DeviceStats> stats() const = 0;
  // Ends all of them.
  virtual void stop() = 0;
};

// For an engine that has none: get() gives `why`.
[[nodiscard]] std::shared_ptr<Devices> no_devices(Status why);

}  // namespace ray_hixl::device
