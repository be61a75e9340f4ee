// Device: one NPU as an engine uses it: HIXL's engine there, its driver, its registered memory and its slabs.
//
// Made at the first use of that NPU. Any thread may call any method; what needs the device's context runs on the driver's thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memory/reaper.h"
#include "memory/slabs.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/options.h"
#include "ray_hixl/stats.h"
#include "ray_hixl/status.h"
#include "transport/hixl/cann.h"
#include "transport/hixl/driver.h"
#include "transport/hixl/registry.h"

namespace ray_hixl::transport::hixl {

class Device : public std::enable_shared_from_this<Device> {
 public:
  // Starts HIXL on the device and registers a first slab, which takes a moment. All arguments outlive it.
  [[nodiscard]] static Result<std::shared_ptr<Device>> start(const Cann& cann, const Options& options, memory::Reaper& reaper,
                                                             std::int32_t index);
  Device(const Cann& cann, const Options& options, memory::Reaper& reaper, std::int32_t index);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  [[nodiscard]] std::int32_t index() const { return index_; }
  // "ip:port", what peers connect to.
  [[nodiscard]] const std::string& engine_name() const { return name_; }
  [[nodiscard]] Driver& driver() { return driver_; }
  [[nodiscard]] const Registry& registry() const { return registry_; }
  [[nodiscard]] memory::Slabs& slabs() { return *slabs_; }
  [[nodiscard]] DeviceStats stats() const;

  // Out of the slabs: see Slabs::allocate(). What was let go of just before is on its way back on other threads, so it waits a moment
  // before it says that they are full.
  [[nodiscard]] Result<std::shared_ptr<const memory::Block>> allocate(std::uint64_t bytes, const memory::Slabs::Fence& fence);
  // Shows `segment`, a whole allocation, to peers; counted. The result keeps it so, and keeps `owner`; dropping the last one takes it out
  // as soon as that is legal, which may be at the end. kNotAvailable: HIXL cannot have it, and why.
  [[nodiscard]] Result<std::shared_ptr<const void>> register_memory(const MemoryRange& segment, std::shared_ptr<const void> owner);
  // Keeps the registration that holds all these bytes, whatever becomes of the region that made it; `owner` keeps the memory for as long as
  // HIXL has it. Nullopt if it is not registered.
  struct Held {
    const std::byte* base = nullptr;
    std::uint64_t length = 0;
    std::shared_ptr<const void> registration;
  };
  [[nodiscard]] std::optional<Held> hold(const std::byte* address, std::uint64_t length, std::shared_ptr<const void> owner);
  // The allocation of the runtime that holds these bytes; the range itself where this version of CANN does not tell.
  [[nodiscard]] MemoryRange allocation_of(const MemoryRange& range) const;
  // Waits until the device has done everything that was queued. For users without torch: torch queues work on the host, too.
  [[nodiscard]] Status synchronize();
  // Copies within this device, and returns when that is done.
  [[nodiscard]] Status copy_now(std::vector<OpDesc> ops);
  // Copies within this process: to this device, from this or another one. In parts, so that it delays others little.
  void copy(std::shared_ptr<Move> move, std::int32_t from_device);

  // A reader of another engine learnt how to connect here, or went. Loop thread.
  void reader_came() { readers_.fetch_add(1, std::memory_order_relaxed); }
  void reader_went();

  // Takes everything down, in the order that HIXL asks for. Blocks for as long as connects take at most. Blocks of the slabs stay.
  void stop();

 private:
  class SlabMemory;
  class Registration;

  [[nodiscard]] Status start_hixl();
  [[nodiscard]] Result<const std::byte*> register_on_driver(const std::byte* address, std::uint64_t length);
  void forget(const std::byte* base, std::shared_ptr<const void> owner);
  void collect();
  void copy_part(const std::shared_ptr<Move>& move, std::size_t op, std::size_t offset);
  [[nodiscard]] Status enable_peer(std::int32_t peer);

  const Cann& cann_;
  const Options& options_;
  const std::int32_t index_;
  std::string name_;
  Registry registry_;
  std::atomic<std::uint64_t> readers_{0};  // engines that may be linked to this one
  std::shared_ptr<memory::Slabs> slabs_;   // shared with its blocks, which may outlive the engine
  Driver driver_;
};

// Device memory is left to the driver of the machine from here on: the runtime may be gone already. For the end of a process.
void leave_memory();

}  // namespace ray_hixl::transport::hixl
