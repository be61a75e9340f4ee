// Npus: the devices of an engine, all of them Npu.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "device/devices.h"
#include "memory/reaper.h"
#include "ray_hixl/options.h"
#include "transport/hixl/npu.h"

namespace ray_hixl::transport::hixl {

class Npus final : public device::Devices {
 public:
  // See create_devices().
  Npus(const Options& options, memory::Reaper& reaper, std::shared_ptr<memory::Arena> source, std::function<void()> loaded);

  Status usable() const override;
  std::int32_t visible() const override;
  Result<std::shared_ptr<device::Device>> get(std::int32_t index) override;
  std::shared_ptr<device::Device> find(std::int32_t index) const override { return started(index); }
  std::optional<std::int32_t> pinned_by(const std::byte* address, std::uint64_t length) const override;
  std::vector<DeviceStats> stats() const override;
  void stop() override;
  [[nodiscard]] const Options& options() const { return options_; }

  // What those that are started from here on ask of readers. Before the first one.
  void set_recall(Recall recall) { recall_ = std::move(recall); }
  // ok, or why HIXL links none of the NPUs here: none of those that were started, or no NPU at all. Loads CANN.
  [[nodiscard]] Status can_link() const;
  // The NPU if it was started; null otherwise.
  [[nodiscard]] std::shared_ptr<Npu> started(std::int32_t index) const;
  [[nodiscard]] std::vector<std::shared_ptr<Npu>> all_started() const;

 private:
  const Options& options_;
  memory::Reaper& reaper_;
  const std::shared_ptr<memory::Arena> source_;
  const std::function<void()> loaded_;
  Recall recall_;
  Mutex starting_;  // held while one is started
  mutable Mutex mutex_;
  std::map<std::int32_t, std::shared_ptr<Npu>> npus_ RAY_HIXL_GUARDED_BY(mutex_);
  bool stopped_ RAY_HIXL_GUARDED_BY(mutex_) = false;
};

}  // namespace ray_hixl::transport::hixl
