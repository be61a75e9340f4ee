// Registry: the memory of one device that HIXL knows, with the epoch from which on peers can reach each part. Where the device has no HIXL
// (null) it is what peers may read by way of the host.
//
// Peers see what was registered before they connected and nothing later. So every registration raises the epoch after HIXL has it; an
// object or a destination names the epoch that a link must have. Taking memory out is legal only while nobody is linked: until then it
// stays registered, and whoever owns it keeps it.
//
// Lookups, hold() and remove(): any thread. Other changes: driver's thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "device/device.h"
#include "memory/reaper.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "transport/hixl/cann/hixl.h"

namespace ray_hixl::transport::hixl {

using device::Registered;

class Registry {
 public:
  // Owners are dropped on the reaper, which outlives it. `cap_bytes`: HIXL takes no more of the device's.
  explicit Registry(memory::Reaper& reaper, std::uint64_t cap_bytes = UINT64_MAX) : reaper_(reaper), cap_bytes_(cap_bytes) {}

  // Of the latest registration; 0 before the first.
  [[nodiscard]] std::uint64_t epoch() const { return epoch_.load(std::memory_order_acquire); }
  // The registration that holds all these bytes; nullopt if none does.
  [[nodiscard]] std::optional<Registered> find(const std::byte* address, std::uint64_t length) const;
  // The same, and one more user of it, for remove(). Any thread.
  [[nodiscard]] std::optional<Registered> hold(const std::byte* address, std::uint64_t length);
  [[nodiscard]] std::size_t size() const;  // registrations, those that wait for their end included
  // What nobody uses any more, and HIXL still has.
  struct Unused {
    std::size_t registrations = 0;
    std::uint64_t bytes = 0;
  };
  [[nodiscard]] Unused unused() const;

  // Registers the memory, which is the device's or pinned, or counts one more user of the registration that holds it. kInvalidArgument
  // where it overlaps one in part, kOutOfMemory beyond the cap. Gives the base of the registration, for remove().
  [[nodiscard]] Result<const std::byte*> add(Hixl* hixl, const std::byte* address, std::uint64_t length,
                                             MemoryKind kind = MemoryKind::kDevice);
  // One user less. The last one's `owner` stays until collect() has taken the registration out.
  void remove(const std::byte* base, std::shared_ptr<const void> owner);
  // Takes out what has no user any more. REQUIRES: no link in either direction.
  void collect(Hixl* hixl);
  // HIXL's engine is to be replaced by another, which is to know all of it that still has a user. REQUIRES: no link in either direction,
  // and no other change between the two. On failure of bind() nothing of it is bound.
  void unbind(Hixl& hixl);
  [[nodiscard]] Status bind(Hixl& hixl);
  // Takes out everything, after every link went down, before HIXL is finalized.
  void clear(Hixl* hixl);

 private:
  struct Entry {
    std::uint64_t length = 0;
    MemoryKind kind{};
    std::uint64_t epoch = 0;
    void* handle = nullptr;
    std::size_t users = 0;
    std::shared_ptr<const void> last_owner;  // once there are no users
  };
  using Entries = std::map<const std::byte*, Entry>;

  [[nodiscard]] Entries::const_iterator holder(const std::byte* address, std::uint64_t length) const RAY_HIXL_REQUIRES(mutex_);
  [[nodiscard]] bool overlaps(const std::byte* address, std::uint64_t length) const RAY_HIXL_REQUIRES(mutex_);
  void take_out(Hixl* hixl, bool all);
  [[nodiscard]] static Outcome register_with(Hixl& hixl, const std::byte* address, std::uint64_t length, MemoryKind kind, void*& handle);
  [[nodiscard]] static Status refused(const Outcome& outcome, std::uint64_t length, MemoryKind kind);
  [[nodiscard]] Status check_room(std::uint64_t length) const RAY_HIXL_REQUIRES(mutex_);

  memory::Reaper& reaper_;
  const std::uint64_t cap_bytes_;
  std::atomic<std::uint64_t> epoch_{0};
  mutable Mutex mutex_;
  Entries entries_ RAY_HIXL_GUARDED_BY(mutex_);  // by base
};

}  // namespace ray_hixl::transport::hixl
