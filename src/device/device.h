// Device: one NPU as everything above transports sees it: memory of its own in slabs, memory of users that peers may read, copies, fences.
//
// What moves its bytes between processes implements it. Any thread may call any method. Those that wait may need Python's GIL on another
// thread for it, so they are called without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "base/deadline.h"
#include "device/slabs.h"
#include "device/staging.h"
#include "memory/arena.h"
#include "ray_hixl/fence.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/stats.h"
#include "ray_hixl/status.h"

namespace ray_hixl::device {

// A registration. Its epoch names it: no two of a device have the same.
struct Registered {
  const std::byte* base = nullptr;
  std::uint64_t length = 0;
  std::uint64_t epoch = 0;
  [[nodiscard]] bool holds(const std::byte* address, std::uint64_t bytes) const;
};

// A registration that stays as long as this is kept, whatever becomes of the region that made it.
struct Held {
  Registered registered;
  std::shared_ptr<const void> keep;
};

// Host memory that a device has pinned.
struct Pinned {
  MemoryRange range;                         // kHost where HIXL does not take it
  std::shared_ptr<const void> memory;        // keeps it; may outlive the engine
  std::shared_ptr<const void> registration;  // keeps it registered, and the memory; null where HIXL does not take it
};

// Bytes of one device, or of two of this process.
struct Copy {
  std::byte* to = nullptr;
  const std::byte* from = nullptr;
  std::uint64_t length = 0;
};

class Device {
 public:
  explicit Device(std::int32_t index) : index_(index) {}
  virtual ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] std::int32_t index() const { return index_; }  // as this process numbers them

  // Out of the slabs: see Slabs::allocate(). What was let go of just before is on its way back on other threads, so it waits a moment
  // before it says that they are full.
  // `set_fence`: of whoever queues work on the device for the caller. Behind it everything is waited for that had reached the device.
  [[nodiscard]] Result<std::shared_ptr<const memory::Block>> allocate(std::uint64_t bytes, const SetFence& set_fence, Deadline deadline);
  // See Slabs::allocate_each(). All or none.
  [[nodiscard]] Result<memory::Blocks> allocate_each(std::span<const std::uint64_t> lengths, const SetFence& set_fence, Deadline deadline);
  // See Slabs::reserve().
  [[nodiscard]] Status reserve(std::uint64_t bytes);

  // Shows `segment`, a whole allocation, to peers; counted. The result keeps it so, and keeps `owner`; dropping the last one takes it out
  // as soon as that is legal, which may be at the end. kNotAvailable: it cannot be shown, and why.
  [[nodiscard]] virtual Result<std::shared_ptr<const void>> register_memory(const MemoryRange& segment,
                                                                            std::shared_ptr<const void> owner) = 0;
  // Host memory that the device copies from and to by itself, shown to peers if HIXL takes it. An allocation of its own.
  [[nodiscard]] virtual Result<Pinned> allocate_pinned(std::uint64_t bytes) = 0;
  // The registration that holds all these bytes, if there is one, kept; it keeps `owner` for as long as peers may read the memory.
  [[nodiscard]] virtual std::optional<Held> hold(const std::byte* address, std::uint64_t length, std::shared_ptr<const void> owner) = 0;
  // The registration that holds all these bytes; nullopt if none does.
  [[nodiscard]] virtual std::optional<Registered> find(const std::byte* address, std::uint64_t length) const = 0;
  [[nodiscard]] std::optional<std::uint64_t> epoch_of(const std::byte* address, std::uint64_t length) const;
  // The allocation of the runtime that holds these bytes; the range itself where the runtime does not tell.
  [[nodiscard]] virtual MemoryRange allocation_of(const MemoryRange& range) const = 0;

  // Behind what is queued on the device's default stream. For users without torch, which has streams of its own.
  [[nodiscard]] virtual Result<std::shared_ptr<Fence>> set_fence() = 0;
  // Behind everything that has reached the device, on any stream, until it is asked for the first time. What torch still holds back on the
  // host has not.
  [[nodiscard]] virtual std::shared_ptr<Fence> fence_everything() = 0;
  // Queues copies within this device, on its default stream.
  [[nodiscard]] virtual Status copy(std::span<const Copy> copies) = 0;

  // Between this device and host memory.
  [[nodiscard]] Staging& staging() { return *staging_; }

  [[nodiscard]] virtual DeviceStats stats() const = 0;

 protected:
  // Once each, before anybody else has the device.
  void use_slabs(std::shared_ptr<Slabs> slabs) { slabs_ = std::move(slabs); }
  void use_staging(std::unique_ptr<StagingRuntime> runtime, std::shared_ptr<memory::Arena> source);
  [[nodiscard]] Slabs& slabs() { return *slabs_; }
  [[nodiscard]] const Slabs& slabs() const { return *slabs_; }

 private:
  const std::int32_t index_;
  std::shared_ptr<Slabs> slabs_;  // shared with its blocks, which may outlive the engine
  std::unique_ptr<Staging> staging_;
};

// Device memory is left to the driver of the machine from here on: the runtime may be gone already. For the end of a process.
void leave_memory();
[[nodiscard]] bool memory_is_left();

}  // namespace ray_hixl::device
