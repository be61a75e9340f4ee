// ScriptedStaging: a device's staging whose "device" is host memory; copies wait and fail as a test says. ScriptedDevices: engines' NPUs
// that have nothing else.
#pragma once

#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "device/devices.h"
#include "support/event.h"

namespace ray_hixl::test {

// What a test says, and what happened. Outlives the staging.
struct StagingScript {
  std::atomic<bool> fails = false;          // every copy
  std::atomic<bool> has_no_memory = false;  // of the runtime, for what comes
  std::atomic<bool> cannot_pin = false;
  std::atomic<const Event*> waits = nullptr;  // what every copy waits for
  std::atomic<int> began{0};                  // copies
  std::atomic<int> copied{0};
  std::atomic<std::size_t> allocated{0};  // buffers
  std::atomic<std::size_t> refused{0};    // for want of memory
  std::atomic<std::size_t> freed{0};
  std::atomic<std::size_t> pinned{0};  // buffers of the arena
  std::atomic<std::size_t> unpinned{0};
};

class ScriptedStaging final : public device::StagingRuntime {
 public:
  explicit ScriptedStaging(StagingScript& script) : script_(script) {}
  Status enter() override { return Status::ok(); }
  Result<std::byte*> allocate(std::uint64_t bytes) override {
    if (script_.has_no_memory) {
      ++script_.refused;
      return Status(Code::kOutOfMemory, "no pinned memory, the script says");
    }
    ++script_.allocated;
    return new std::byte[bytes];
  }
  void free(std::byte* memory) noexcept override {
    ++script_.freed;
    delete[] memory;
  }
  bool pin(std::byte*, std::uint64_t) override {
    if (!script_.cannot_pin) ++script_.pinned;
    return !script_.cannot_pin;
  }
  void unpin(std::byte*) noexcept override { ++script_.unpinned; }
  Status to_host(std::byte* to, const std::byte* from, std::uint64_t length) override { return copy(to, from, length); }
  Status to_device(std::byte* to, const std::byte* from, std::uint64_t length) override { return copy(to, from, length); }

 private:
  Status copy(std::byte* to, const std::byte* from, std::uint64_t length) {
    ++script_.began;
    if (const Event* const event = script_.waits; event != nullptr && !event->wait()) return Status(Code::kInternal, "nobody let it go on");
    if (script_.fails) return Status(Code::kNotAvailable, "the device failed, the script says");
    std::memcpy(to, from, length);
    ++script_.copied;
    return Status::ok();
  }
  StagingScript& script_;
};

[[nodiscard]] inline std::shared_ptr<memory::Arena> source_arena() { return memory::Arena::create(memory::ArenaKind::kSource, 0); }

class ScriptedDevice final : public device::Device {
 public:
  ScriptedDevice(std::int32_t index, StagingScript& script, std::shared_ptr<memory::Arena> source) : Device(index) {
    use_staging(std::make_unique<ScriptedStaging>(script), std::move(source));
  }
  Result<std::shared_ptr<const void>> register_memory(const MemoryRange&, std::shared_ptr<const void>) override { return none(); }
  Result<device::Pinned> allocate_pinned(std::uint64_t) override { return none(); }
  std::optional<device::Held> hold(const std::byte*, std::uint64_t, std::shared_ptr<const void>) override { return std::nullopt; }
  std::optional<device::Registered> find(const std::byte*, std::uint64_t) const override { return std::nullopt; }
  MemoryRange allocation_of(const MemoryRange& range) const override { return range; }
  Result<std::shared_ptr<Fence>> set_fence() override { return none(); }
  std::shared_ptr<Fence> fence_everything() override { return nullptr; }
  Status copy(std::span<const device::Copy>) override { return none(); }
  DeviceStats stats() const override { return {}; }

 private:
  static Status none() { return Status(Code::kNotAvailable, "a scripted device has nothing but staging"); }
};

// REQUIRES: stop() before it goes, which may be on a thread of its own.
class ScriptedDevices final : public device::Devices {
 public:
  ScriptedDevices(std::int32_t count, StagingScript& script, const std::shared_ptr<memory::Arena>& source = source_arena()) {
    for (std::int32_t i = 0; i < count; ++i) devices_.push_back(std::make_shared<ScriptedDevice>(i, script, source));
  }
  Status usable() const override { return Status::ok(); }
  std::int32_t visible() const override { return static_cast<std::int32_t>(devices_.size()); }
  Result<std::shared_ptr<device::Device>> get(std::int32_t index) override { return find(index); }
  std::shared_ptr<device::Device> find(std::int32_t index) const override {
    return index < visible() ? devices_[static_cast<std::size_t>(index)] : nullptr;
  }
  std::optional<std::int32_t> pinned_by(const std::byte*, std::uint64_t) const override { return std::nullopt; }
  std::vector<DeviceStats> stats() const override { return {}; }
  void stop() override {
    for (const auto& device : devices_) (void)device->staging().stop(Deadline::never());
  }

 private:
  std::vector<std::shared_ptr<device::Device>> devices_;
};

}  // namespace ray_hixl::test
