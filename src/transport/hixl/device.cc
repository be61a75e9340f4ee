#include "transport/hixl/device.h"

#include <algorithm>
#include <utility>

#include "transport/hixl/start.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::size_t kCopyPart = std::size_t{16} << 20;
constexpr std::chrono::seconds kStopMargin{5};
constexpr std::chrono::milliseconds kReturnPatience{128};  // for blocks that are on their way back

std::atomic<bool> memory_is_left{false};

std::string device_name(std::int32_t index) { return "npu:" + std::to_string(index); }

std::chrono::milliseconds connect_timeout(const Options& options) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(seconds_to_duration(options.connect_timeout_s));
}

// The calling thread's device for as long as it lives; the one before comes back.
class DeviceGuard {
 public:
  DeviceGuard(const Acl& acl, std::int32_t device) : acl_(acl) {
    had_context_ = acl_.get_current_context(&before_) == kAclOk;
    is_set_ = acl_.set_device(device) == kAclOk;
  }
  ~DeviceGuard() {
    if (had_context_) acl_.set_current_context(before_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;
  [[nodiscard]] bool is_set() const { return is_set_; }

 private:
  const Acl& acl_;
  void* before_ = nullptr;
  bool had_context_ = false;
  bool is_set_ = false;
};

}  // namespace

void leave_memory() { memory_is_left = true; }

// Slabs: memory in 2 MiB pages, registered before anybody gets any of it. Outlives the device as long as there are blocks.
class Device::SlabMemory final : public memory::SlabSource {
 public:
  SlabMemory(const Acl& acl, std::weak_ptr<Device> device, std::int32_t index) : acl_(acl), device_(std::move(device)), index_(index) {}

  Result<std::byte*> take(std::uint64_t bytes) override {
    const auto device = device_.lock();
    if (!device) return Status(Code::kClosed, "the engine was closed");
    return device->driver_.call<std::byte*>([&device = *device, bytes]() -> Result<std::byte*> {
      void* address = nullptr;
      if (const int error = device.cann_.acl.malloc(&address, bytes, kAclHugeOnly); error != kAclOk) {
        return device.cann_.acl.status(error, "taking " + std::to_string(bytes >> 20) + " MiB of " + device_name(device.index_) +
                                                  " for ray-hixl's slabs (aclrtMalloc); give torch less, or lower slab_bytes");
      }
      auto* const memory = static_cast<std::byte*>(address);
      const Result<const std::byte*> registered = device.registry_.add(*device.driver_.hixl_or_null(), memory, bytes);
      if (registered.is_ok()) return memory;
      device.cann_.acl.free(address);
      return registered.status();
    });
  }

  // After HIXL let go of it. The thread is whoever dropped the last block; work that reads the memory may still be queued.
  void give_back(std::byte* address, std::uint64_t) noexcept override {
    if (memory_is_left) return;
    const DeviceGuard guard(acl_, index_);
    if (guard.is_set() && acl_.synchronize_device() == kAclOk) acl_.free(address);
  }

 private:
  const Acl& acl_;
  const std::weak_ptr<Device> device_;
  const std::int32_t index_;
};

class Device::Registration {
 public:
  Registration(std::shared_ptr<Device> device, const std::byte* base, std::shared_ptr<const void> owner)
      : device_(std::move(device)), base_(base), owner_(std::move(owner)) {}
  ~Registration() { device_->forget(base_, std::move(owner_)); }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  const std::shared_ptr<Device> device_;
  const std::byte* const base_;
  std::shared_ptr<const void> owner_;
};

Device::Device(const Cann& cann, const Options& options, memory::Reaper& reaper, std::int32_t index)
    : cann_(cann),
      options_(options),
      index_(index),
      registry_(reaper),
      driver_(
          index, [&cann, index] { cann.acl.set_device(index); }, transport::hixl::connect_timeout(options),
          [this] { return registry_.epoch(); }) {}

Device::~Device() = default;

Result<std::shared_ptr<Device>> Device::start(const Cann& cann, const Options& options, memory::Reaper& reaper, std::int32_t index) {
  if (index < 0 || static_cast<std::uint32_t>(index) >= cann.devices) {
    return Status(Code::kInvalidArgument, "there is no " + device_name(index) + ": this process sees " + std::to_string(cann.devices) +
                                              " NPU(s), see ASCEND_RT_VISIBLE_DEVICES");
  }
  auto device = std::make_shared<Device>(cann, options, reaper, index);
  if (const Status driven = device->driver_.start(); !driven.is_ok()) return driven.with_context("cannot use " + device_name(index));
  device->slabs_ = memory::Slabs::create(std::make_unique<SlabMemory>(cann.acl, device, index), options.slab_bytes,
                                         std::max(options.slab_bytes, options.slab_cap_bytes));
  Status started = device->start_hixl();
  if (started.is_ok()) started = device->slabs_->reserve(options.slab_bytes);  // before the first link, so that none has to be made anew
  if (started.is_ok()) return device;
  device->stop();
  return started.with_context("cannot use " + device_name(index));
}

Status Device::start_hixl() {
  return driver_
      .call<std::string>([this]() -> Result<std::string> {
        if (const int error = cann_.acl.set_device(index_); error != kAclOk) return cann_.acl.status(error, "aclrtSetDevice");
        Result<Started> started = transport::hixl::start(cann_, options_);
        if (!started.is_ok()) return started.status();
        name_ = started->name;
        driver_.use(std::move(started->hixl));
        driver_.set_link_down([this] { collect(); });
        return name_;
      })
      .status();
}

Result<std::shared_ptr<const memory::Block>> Device::allocate(std::uint64_t bytes, const memory::Slabs::Fence& fence) {
  const Deadline patience = Deadline::in(kReturnPatience);
  while (true) {
    const std::uint64_t ticket = slabs_->pending_ticket();  // before, so that what is freed from here on is not missed
    Result<std::shared_ptr<const memory::Block>> block = slabs_->allocate(bytes, fence);
    if (block.status().code() != Code::kOutOfMemory || !slabs_->wait_until_freed(ticket, patience)) return block;
  }
}

Result<const std::byte*> Device::register_on_driver(const std::byte* address, std::uint64_t length) {
  return driver_.call<const std::byte*>([this, address, length] { return registry_.add(*driver_.hixl_or_null(), address, length); });
}

Result<std::shared_ptr<const void>> Device::register_memory(const MemoryRange& segment, std::shared_ptr<const void> owner) {
  const Result<const std::byte*> base = register_on_driver(segment.address, segment.length);
  if (!base.is_ok()) return base.status();
  return std::shared_ptr<const void>(std::make_shared<Registration>(shared_from_this(), *base, std::move(owner)));
}

std::optional<Device::Held> Device::hold(const std::byte* address, std::uint64_t length, std::shared_ptr<const void> owner) {
  const std::optional<Registered> held = registry_.hold(address, length);
  if (!held) return std::nullopt;
  return Held{held->base, held->length, std::make_shared<Registration>(shared_from_this(), held->base, std::move(owner))};
}

void Device::forget(const std::byte* base, std::shared_ptr<const void> owner) {
  registry_.remove(base, std::move(owner));
  driver_.post([self = shared_from_this()] { self->collect(); });
}

// Driver's thread.
void Device::collect() {
  if (driver_.has_links() || readers_.load(std::memory_order_relaxed) > 0 || driver_.hixl_or_null() == nullptr) return;
  registry_.collect(*driver_.hixl_or_null());
}

void Device::reader_went() {
  if (readers_.fetch_sub(1, std::memory_order_relaxed) > 1) return;
  driver_.post([self = shared_from_this()] { self->collect(); });
}

MemoryRange Device::allocation_of(const MemoryRange& range) const {
  void* base = nullptr;
  std::size_t bytes = 0;
  if (cann_.acl.address_range == nullptr || cann_.acl.address_range(range.address, &base, &bytes) != kAclOk) return range;
  return {static_cast<std::byte*>(base), bytes, MemoryKind::kDevice, index_};
}

Status Device::synchronize() {
  return driver_
      .call<bool>([this]() -> Result<bool> {
        const int error = cann_.acl.synchronize_device();
        if (error != kAclOk) return cann_.acl.status(error, "aclrtSynchronizeDevice of " + device_name(index_));
        return true;
      })
      .status();
}

Status Device::enable_peer(std::int32_t peer) {
  if (peer == index_ || cann_.acl.enable_peer_access == nullptr) return Status::ok();
  std::int32_t can = 1;
  if (cann_.acl.can_access_peer != nullptr) (void)cann_.acl.can_access_peer(&can, index_, peer);
  if (can == 0) {
    return Status(Code::kNotAvailable, device_name(peer) + " and " + device_name(index_) +
                                           " of this process cannot reach each other's memory; go through the CPU (tensor.cpu())");
  }
  (void)cann_.acl.enable_peer_access(peer, 0);  // an error shows in the copy, a second time is none
  return Status::ok();
}

Status Device::copy_now(std::vector<OpDesc> ops) {
  return driver_
      .call<bool>([this, ops = std::move(ops)]() -> Result<bool> {
        for (const OpDesc& op : ops) {
          const int error = cann_.acl.memcpy(reinterpret_cast<void*>(op.local), op.length, reinterpret_cast<const void*>(op.remote),
                                             op.length, kAclDeviceToDevice);
          if (error != kAclOk) return cann_.acl.status(error, "copying on " + device_name(index_) + " (aclrtMemcpy)");
        }
        return true;
      })
      .status();
}

void Device::copy(std::shared_ptr<Move> move, std::int32_t from_device) {
  const bool posted = driver_.post([self = shared_from_this(), move, from_device] {
    if (const Status reachable = self->enable_peer(from_device); !reachable.is_ok()) return move->end(reachable);
    self->copy_part(move, 0, 0);
  });
  if (!posted) move->end(Status(Code::kClosed, "the engine was closed"));
}

void Device::copy_part(const std::shared_ptr<Move>& move, std::size_t op, std::size_t offset) {
  if (move->transfer->stopping()) return move->end(move->transfer->stop_reason());
  std::size_t budget = kCopyPart;
  while (op < move->ops.size() && budget > 0) {
    const OpDesc& desc = move->ops[op];
    const std::size_t bytes = std::min(budget, desc.length - offset);
    const int error = cann_.acl.memcpy(reinterpret_cast<void*>(desc.local + offset), bytes,
                                       reinterpret_cast<const void*>(desc.remote + offset), bytes, kAclDeviceToDevice);
    if (error != kAclOk) return move->end(cann_.acl.status(error, "copying to " + device_name(index_) + " (aclrtMemcpy)"));
    budget -= bytes;
    offset += bytes;
    if (offset < desc.length) break;
    offset = 0;
    ++op;
  }
  if (op == move->ops.size()) return move->end(Status::ok());
  const bool posted = driver_.post([self = shared_from_this(), move, op, offset] { self->copy_part(move, op, offset); });
  if (!posted) move->end(Status(Code::kClosed, "the engine was closed"));
}

DeviceStats Device::stats() const {
  const DriverCounters& c = driver_.counters();
  DeviceStats stats;
  stats.device = index_;
  stats.registrations = registry_.size();
  stats.epoch = registry_.epoch();
  stats.connects = c.connects.load(std::memory_order_relaxed);
  stats.connects_failed = c.connects_failed.load(std::memory_order_relaxed);
  stats.refreshes = c.refreshes.load(std::memory_order_relaxed);
  stats.links_broken = c.links_broken.load(std::memory_order_relaxed);
  stats.retries = c.retries.load(std::memory_order_relaxed);
  stats.requests = c.requests.load(std::memory_order_relaxed);
  stats.exhausted = c.exhausted.load(std::memory_order_relaxed);
  stats.slabs = slabs_->stats();
  return stats;
}

void Device::stop() {
  const Deadline deadline = Deadline::in(connect_timeout(options_) + kStopMargin);
  const bool let_go = driver_.stop(deadline, [this] {
    Hixl* const hixl = driver_.hixl_or_null();
    if (hixl == nullptr) return;
    registry_.clear(*hixl);
    hixl->finalize();
    driver_.use(nullptr);
  });
  if (!let_go) {
    new std::shared_ptr<Device>(shared_from_this());  // its threads, HIXL and what HIXL may still write to stay for ever
    return;
  }
  slabs_->close();
}

}  // namespace ray_hixl::transport::hixl
