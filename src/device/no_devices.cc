#include <utility>

#include "device/devices.h"

namespace ray_hixl::device {
namespace {

class NoDevices final : public Devices {
 public:
  explicit NoDevices(Status why) : why_(std::move(why)) {}

  Status usable() const override { return why_; }
  std::int32_t visible() const override { return 0; }
  Result<std::shared_ptr<Device>> get(std::int32_t) override { return why_; }
  std::shared_ptr<Device> find(std::int32_t) const override { return nullptr; }
  std::optional<std::int32_t> pinned_by(const std::byte*, std::uint64_t) const override { return std::nullopt; }
  std::vector<DeviceStats> stats() const override { return {}; }
  void stop() override {}

 private:
  const Status why_;
};

}  // namespace

std::shared_ptr<Devices> no_devices(Status why) { return std::make_shared<NoDevices>(std::move(why)); }

}  // namespace ray_hixl::device
