// Npu: one NPU as an engine uses it: HIXL's engine there, its driver, its registered memory and its slabs. Where HIXL is not to be had, or
// not allowed, the runtime alone gives memory, copies and fences, and what peers read is staged.
//
// Made at the first use of that NPU. Any thread may call any method; what needs the device's context runs on the driver's thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/deadline.h"
#include "base/mutex.h"
#include "device/device.h"
#include "device/name.h"
#include "memory/reaper.h"
#include "ray_hixl/options.h"
#include "transport/hixl/cann/cann.h"
#include "transport/hixl/driver/driver.h"
#include "transport/hixl/driver/registry.h"

namespace ray_hixl::transport::hixl {

// What an NPU asks of the readers of other engines; see Readers. Null functions: there are none.
struct Recall {
  std::function<void(std::int32_t device, bool anyway, Deadline deadline, std::function<void(bool all)> then)> begin;
  std::function<void(std::int32_t device)> end;
};

class Npu final : public device::Device, public std::enable_shared_from_this<Npu> {
 public:
  // Starts HIXL on the device, if it is allowed, and takes a first slab, which takes a moment. Where HIXL does not start it goes on without
  // if its memory can be staged. All arguments outlive it.
  // `source`: see device::Staging.
  [[nodiscard]] static Result<std::shared_ptr<Npu>> start(const Cann& cann, const Options& options, memory::Reaper& reaper,
                                                          const Recall& recall, const std::shared_ptr<memory::Arena>& source,
                                                          std::int32_t index);
  Npu(const Cann& cann, const Options& options, memory::Reaper& reaper, const Recall& recall, std::int32_t index);
  ~Npu() override;

  // ok, or why this NPU has no engine of HIXL: constant.
  [[nodiscard]] const Status& can_link() const { return can_link_; }
  // "ip:port", what peers connect to. Changes when HIXL's engine is replaced; empty while there is none.
  [[nodiscard]] std::string engine_name() const;
  [[nodiscard]] Driver& driver() { return driver_; }
  [[nodiscard]] Registry& registry() { return registry_; }
  [[nodiscard]] const Acl& acl() const { return cann_.acl; }

  Result<std::shared_ptr<const void>> register_memory(const MemoryRange& segment, std::shared_ptr<const void> owner) override;
  Result<device::Pinned> allocate_pinned(std::uint64_t bytes) override;
  std::optional<device::Held> hold(const std::byte* address, std::uint64_t length, std::shared_ptr<const void> owner) override;
  std::optional<device::Registered> find(const std::byte* address, std::uint64_t length) const override {
    return registry_.find(address, length);
  }
  MemoryRange allocation_of(const MemoryRange& range) const override;
  Result<std::shared_ptr<Fence>> set_fence() override;
  std::shared_ptr<Fence> fence_everything() override;
  Status copy(std::span<const device::Copy> copies) override;
  DeviceStats stats() const override;

  // Nobody can link to the engine. False where that is not its port, or was tried often enough: then it stays. Loop thread.
  [[nodiscard]] bool replace_engine();

  // Copies within this process: to this device, from this or another one. In parts, so that it delays others little.
  void move(std::shared_ptr<Move> move, std::int32_t from_device);
  // A reader of another engine learnt how to connect here, or went. Loop thread.
  void reader_came() { readers_.fetch_add(1, std::memory_order_relaxed); }
  void reader_went();

  // Takes everything down, in the order that HIXL asks for. Blocks for as long as connects take at most. Blocks of the slabs stay.
  void stop();

 private:
  class Registration;

  [[nodiscard]] Status enter_device();
  [[nodiscard]] Status start_hixl();
  void tell_if_unlinkable() const;
  void recall(bool anyway, std::function<void(bool all)> then);
  [[nodiscard]] Result<std::unique_ptr<Hixl>> renew(std::unique_ptr<Hixl> old);
  void forget(const std::byte* base, std::shared_ptr<const void> owner);
  void collect();
  void move_part(const std::shared_ptr<Move>& move, std::size_t op, std::size_t offset);
  [[nodiscard]] Result<device::Pinned> pin(std::uint64_t bytes);
  [[nodiscard]] Result<device::Pinned> show(Hixl* hixl, device::Pinned pinned);
  [[nodiscard]] Status enable_peer(std::int32_t peer);

  const Cann& cann_;
  const Options& options_;
  const Recall recall_;
  Status can_link_;  // set by start()
  mutable Mutex mutex_;
  std::string name_ RAY_HIXL_GUARDED_BY(mutex_);
  Status unpinned_ RAY_HIXL_GUARDED_BY(mutex_);  // of the last host memory that HIXL did not take
  Registry registry_;
  std::atomic<std::uint64_t> readers_{0};  // engines that may be linked to this one
  int replacements_ = 0;                   // that readers had asked for; loop thread
  Registry::Unused asked_at_;              // what there was when links were asked to let go; driver's thread only
  Driver driver_;
};

using device::npu_name;

}  // namespace ray_hixl::transport::hixl
