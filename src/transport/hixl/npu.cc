#include "transport/hixl/npu.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/process_shared.h"
#include "base/thread.h"
#include "transport/hixl/cann/start.h"
#include "transport/hixl/slab_memory.h"
#include "transport/hixl/staging_memory.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::chrono::seconds kStopMargin{5};
constexpr std::uint64_t kHostPage = 4096;
constexpr std::uint64_t kMostUnusedBytes = std::uint64_t{64} << 20;  // of registrations that wait for readers to let go
constexpr std::size_t kMostUnusedRegistrations = 256;                // of the 4096 that a peer may see
constexpr int kMostReplacements = 3;                                 // for the sake of readers, who may have another reason

// On A2 and A3 HIXL takes 50 GB, by its documentation.
std::uint64_t registered_cap(const Cann& cann) { return cann.soc.starts_with("Ascend910") ? 50'000'000'000 : UINT64_MAX; }

constexpr std::string_view kHixl = "hixl";
constexpr std::string_view kStaged = "staged";

bool allows(const Options& options, std::string_view transport) {
  return std::ranges::find(options.transports, transport) != options.transports.end();
}

std::chrono::milliseconds to_milliseconds(double seconds) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(seconds_to_duration(seconds));
}

}  // namespace

class Npu::Registration {
 public:
  Registration(std::shared_ptr<Npu> npu, const std::byte* base, std::shared_ptr<const void> owner)
      : npu_(std::move(npu)), base_(base), owner_(std::move(owner)) {}
  ~Registration() { npu_->forget(base_, std::move(owner_)); }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  const std::shared_ptr<Npu> npu_;
  const std::byte* const base_;
  std::shared_ptr<const void> owner_;
};

Npu::Npu(const Cann& cann, const Options& options, memory::Reaper& reaper, const Recall& recall, std::int32_t index)
    : Device(index),
      cann_(cann),
      options_(options),
      recall_(recall),
      registry_(reaper, registered_cap(cann)),
      driver_({index, [&cann, index] { cann.acl.set_device(index); }, to_milliseconds(options.connect_timeout_s),
               to_milliseconds(options.stall_timeout_s), [this] { return registry_.epoch(); },
               [this](std::unique_ptr<Hixl> old) { return renew(std::move(old)); },
               [this](bool anyway, std::function<void(bool all)> then) { this->recall(anyway, std::move(then)); },
               [this] {
                 if (recall_.end) recall_.end(this->index());
               },
               options.hixl_max_active_channels, options.hixl_max_links, seconds_to_duration(options.idle_timeout_s)}) {}

Npu::~Npu() = default;

Result<std::shared_ptr<Npu>> Npu::start(const Cann& cann, const Options& options, memory::Reaper& reaper, const Recall& recall,
                                        const std::shared_ptr<memory::Arena>& source, std::int32_t index) {
  if (index < 0 || static_cast<std::uint32_t>(index) >= cann.devices) {
    return Status(Code::kInvalidArgument, "there is no " + npu_name(index) + ": this process sees " + std::to_string(cann.devices) +
                                              " NPU(s), see ASCEND_RT_VISIBLE_DEVICES");
  }
  auto npu = std::make_shared<Npu>(cann, options, reaper, recall, index);
  if (const Status driven = npu->driver_.start(); !driven.is_ok()) return driven.with_context("cannot use " + npu_name(index));
  npu->use_slabs(device::Slabs::create(slab_memory(npu), options.slab_bytes, std::max(options.slab_bytes, options.slab_cap_bytes)));
  npu->use_staging(staging_memory(cann.acl, index), source);
  Status started = npu->enter_device();
  if (started.is_ok()) npu->can_link_ = npu->start_hixl();
  const bool goes_without = npu->can_link_.code() == Code::kNotAvailable && allows(options, kStaged);
  if (started.is_ok() && !goes_without) started = npu->can_link_;
  if (started.is_ok()) started = npu->reserve(options.slab_bytes);  // before the first link, so that none has to be made anew
  if (started.is_ok()) {
    npu->tell_if_unlinkable();
    return npu;
  }
  npu->stop();
  return started.with_context("cannot use " + npu_name(index));
}

Status Npu::enter_device() {
  return driver_
      .call<bool>([this]() -> Result<bool> {
        const int error = cann_.acl.set_device(index());
        return error == kAclOk ? Result<bool>(true) : cann_.acl.status(error, "aclrtSetDevice");
      })
      .status();
}

Status Npu::start_hixl() {
  if (!allows(options_, kHixl)) return Status(Code::kNotAvailable, "Options.transports does not allow hixl; add it there to use it");
  RAY_HIXL_RETURN_IF_ERROR(cann_.hixl);
  return driver_
      .call<std::string>([this]() -> Result<std::string> {
        Result<std::unique_ptr<Hixl>> first = renew(nullptr);
        if (!first.is_ok()) return first.status();
        driver_.use(*std::move(first));
        driver_.set_link_down([this] { collect(); });
        return engine_name();
      })
      .status();
}

void Npu::tell_if_unlinkable() const {
  if (can_link_.is_ok() || !allows(options_, kHixl)) return;
  log(LogLevel::kWarning, npu_name(index()) + " has no HIXL, so its memory is staged through the host: " + can_link_.message());
}

std::string Npu::engine_name() const {
  const MutexLock lock(mutex_);
  return name_;
}

// Readers have as long as requests have to end.
void Npu::recall(bool anyway, std::function<void(bool all)> then) {
  if (!recall_.begin) return then(true);
  const Deadline deadline = Deadline::in(to_milliseconds(options_.stall_timeout_s));
  recall_.begin(index(), anyway, deadline, [weak = weak_from_this(), then = std::move(then)](bool all) {
    if (const auto npu = weak.lock()) then(all);
  });
}

// The first one, too. On a thread that may block. What was published stays where it is, and so do the epochs: nobody is linked.
Result<std::unique_ptr<Hixl>> Npu::renew(std::unique_ptr<Hixl> old) {
  {
    const MutexLock lock(mutex_);
    name_.clear();
  }
  if (old) {
    registry_.unbind(*old);
    old->finalize();
    old.reset();
  }
  Result<Started> started = transport::hixl::start(cann_, options_);
  if (!started.is_ok()) return started.status();
  if (const Status bound = registry_.bind(*started->hixl); !bound.is_ok()) {
    started->hixl->finalize();
    return bound;
  }
  const MutexLock lock(mutex_);
  name_ = started->name;
  return std::move(started->hixl);
}

Result<std::shared_ptr<const void>> Npu::register_memory(const MemoryRange& segment, std::shared_ptr<const void> owner) {
  const Result<const std::byte*> base =
      driver_.call_hixl<const std::byte*>([this, segment](Hixl* hixl) { return registry_.add(hixl, segment.address, segment.length); });
  if (!base.is_ok()) return base.status();
  return std::shared_ptr<const void>(make_process_shared<Registration>(shared_from_this(), *base, std::move(owner)));
}

// Where HIXL does not take it, it is host memory as any other.
Result<device::Pinned> Npu::allocate_pinned(std::uint64_t bytes) {
  Result<device::Pinned> pinned = pin((bytes + kHostPage - 1) / kHostPage * kHostPage);
  if (!pinned.is_ok()) return pinned;
  Result<device::Pinned> shown = driver_.call_hixl<device::Pinned>([this, unknown = *pinned](Hixl* hixl) { return show(hixl, unknown); });
  {
    const MutexLock lock(mutex_);
    unpinned_ = shown.status();
  }
  if (shown.is_ok()) pinned = std::move(shown);
  pinned->range.length = bytes;
  return pinned;
}

// Gigabytes take seconds, for which the driver's thread would not poll.
Result<device::Pinned> Npu::pin(std::uint64_t bytes) {
  return driver_.call_errand<device::Pinned>([&acl = cann_.acl, index = index(), bytes]() -> Result<device::Pinned> {
    void* memory = nullptr;
    if (const int error = acl.malloc_host(&memory, bytes); error != kAclOk) {
      return acl.status(error,
                        "taking " + std::to_string(bytes) + " bytes of pinned host memory of " + npu_name(index) + " (aclrtMallocHost)");
    }
    const std::shared_ptr<const void> keep(memory, [&acl, process = ProcessGuard()](void* pinned) {
      if (!process.in_child() && !device::memory_is_left()) (void)acl.free_host(pinned);
    });
    return device::Pinned{{static_cast<std::byte*>(memory), bytes, MemoryKind::kHost, 0}, keep, nullptr};
  });
}

Result<device::Pinned> Npu::show(Hixl* hixl, device::Pinned pinned) {
  RAY_HIXL_RETURN_IF_ERROR(can_link_);
  if (!cann_.client_server)
    return Status(Code::kNotAvailable, "HIXL's communicator engine is given device memory alone: CANN 9.1 takes both");
  const Result<const std::byte*> base = registry_.add(hixl, pinned.range.address, pinned.range.length, MemoryKind::kPinned);
  if (!base.is_ok()) return base.status();
  pinned.range.kind = MemoryKind::kPinned;
  pinned.range.device = index();
  pinned.registration = make_process_shared<Registration>(shared_from_this(), *base, pinned.memory);
  return pinned;
}

std::optional<device::Held> Npu::hold(const std::byte* address, std::uint64_t length, std::shared_ptr<const void> owner) {
  const std::optional<device::Registered> held = registry_.hold(address, length);
  if (!held) return std::nullopt;
  return device::Held{*held, make_process_shared<Registration>(shared_from_this(), held->base, std::move(owner))};
}

void Npu::forget(const std::byte* base, std::shared_ptr<const void> owner) {
  registry_.remove(base, std::move(owner));
  driver_.post([self = shared_from_this()] { self->collect(); });
}

// Driver's thread. Where somebody is linked memory can only be taken out if all of them let go for a moment; they are asked for that once
// there is much of it, and again when there is as much more.
void Npu::collect() {
  if (driver_.hixl_or_null() == nullptr && can_link_.is_ok()) return;
  if (!driver_.has_links() && readers_.load(std::memory_order_relaxed) == 0) {
    registry_.collect(driver_.hixl_or_null());
    asked_at_ = {};
    return;
  }
  const Registry::Unused unused = registry_.unused();
  const bool is_much =
      unused.bytes >= asked_at_.bytes + kMostUnusedBytes || unused.registrations >= asked_at_.registrations + kMostUnusedRegistrations;
  if (!is_much) return;
  asked_at_ = unused;
  driver_.ask_for_room();
}

bool Npu::replace_engine() {
  if (!listens_late(cann_) || replacements_ >= kMostReplacements) return false;
  ++replacements_;
  return driver_.post([self = shared_from_this()] {
    log(LogLevel::kWarning, "nobody can link to HIXL's engine on " + npu_name(self->index()) +
                                ", whose port on the device's NIC may be taken: another one is started on other ports");
    self->driver_.replace();
  });
}

void Npu::reader_went() {
  if (readers_.fetch_sub(1, std::memory_order_relaxed) > 1) return;
  driver_.post([self = shared_from_this()] { self->collect(); });
}

MemoryRange Npu::allocation_of(const MemoryRange& range) const {
  void* base = nullptr;
  std::size_t bytes = 0;
  if (cann_.acl.address_range == nullptr || cann_.acl.address_range(range.address, &base, &bytes) != kAclOk) return range;
  return {static_cast<std::byte*>(base), bytes, MemoryKind::kDevice, index()};
}

DeviceStats Npu::stats() const {
  const DriverCounters& c = driver_.counters();
  DeviceStats stats;
  stats.device = index();
  stats.unlinkable = can_link_.is_ok() ? "" : can_link_.message();
  {
    const MutexLock lock(mutex_);
    stats.unpinned = unpinned_.message();
  }
  stats.registrations = registry_.size();
  stats.unused_bytes = registry_.unused().bytes;
  stats.epoch = registry_.epoch();
  stats.connects = c.connects.load(std::memory_order_relaxed);
  stats.connects_failed = c.connects_failed.load(std::memory_order_relaxed);
  stats.disconnects_failed = c.disconnects_failed.load(std::memory_order_relaxed);
  stats.refreshes = c.refreshes.load(std::memory_order_relaxed);
  stats.links_broken = c.links_broken.load(std::memory_order_relaxed);
  stats.links_yielded = c.links_yielded.load(std::memory_order_relaxed);
  stats.renewals = c.renewals.load(std::memory_order_relaxed);
  stats.retries = c.retries.load(std::memory_order_relaxed);
  stats.requests = c.requests.load(std::memory_order_relaxed);
  stats.exhausted = c.exhausted.load(std::memory_order_relaxed);
  stats.slabs = slabs().stats();
  return stats;
}

void Npu::stop() {
  const bool staged = staging().stop(Deadline::in(kStopMargin));
  const Deadline deadline = Deadline::in(kConnectStages * to_milliseconds(options_.connect_timeout_s) + kStopMargin);
  const bool let_go = driver_.stop(deadline, [this] {
    Hixl* const hixl = driver_.hixl_or_null();
    if (hixl == nullptr && can_link_.is_ok()) return;
    registry_.clear(hixl);
    if (hixl != nullptr) hixl->finalize();
    driver_.use(nullptr);
  });
  if (!let_go || !staged) {
    new std::shared_ptr<Npu>(shared_from_this());  // its threads, HIXL and what HIXL may still write to stay for ever
    return;
  }
  slabs().close();
}

}  // namespace ray_hixl::transport::hixl
