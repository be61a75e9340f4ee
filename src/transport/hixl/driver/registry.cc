#include "transport/hixl/driver/registry.h"

#include <algorithm>
#include <string>
#include <utility>

namespace ray_hixl::transport::hixl {

Registry::Entries::const_iterator Registry::holder(const std::byte* address, std::uint64_t length) const {
  const auto after = entries_.upper_bound(address);
  if (after == entries_.begin()) return entries_.end();
  const auto it = std::prev(after);
  return Registered{it->first, it->second.length}.holds(address, length) ? it : entries_.end();
}

bool Registry::overlaps(const std::byte* address, std::uint64_t length) const {
  const auto after = entries_.lower_bound(address);
  if (after != entries_.end() && after->first < address + length) return true;
  return after != entries_.begin() && std::prev(after)->first + std::prev(after)->second.length > address;
}

std::optional<Registered> Registry::find(const std::byte* address, std::uint64_t length) const {
  const MutexLock lock(mutex_);
  const auto it = holder(address, length);
  if (it == entries_.end() || it->second.users == 0) return std::nullopt;
  return Registered{it->first, it->second.length, it->second.epoch};
}

std::optional<Registered> Registry::hold(const std::byte* address, std::uint64_t length) {
  const MutexLock lock(mutex_);
  const auto it = holder(address, length);
  if (it == entries_.end() || it->second.users == 0) return std::nullopt;
  ++entries_.at(it->first).users;
  return Registered{it->first, it->second.length, it->second.epoch};
}

Registry::Unused Registry::unused() const {
  const MutexLock lock(mutex_);
  Unused unused;
  for (const auto& [base, entry] : entries_) {
    if (entry.users > 0) continue;
    ++unused.registrations;
    unused.bytes += entry.length;
  }
  return unused;
}

Status Registry::check_room(std::uint64_t length) const {
  std::uint64_t used = 0;
  std::uint64_t unused = 0;
  for (const auto& [base, entry] : entries_) {
    if (entry.kind == MemoryKind::kDevice) (entry.users > 0 ? used : unused) += entry.length;
  }
  if (length <= cap_bytes_ && used + unused <= cap_bytes_ - length) return Status::ok();
  return Status(Code::kOutOfMemory, "HIXL takes " + std::to_string(cap_bytes_) + " bytes of registered memory on this chip, of which " +
                                        std::to_string(used) + " are in use and " + std::to_string(unused) +
                                        " wait for readers to let go; " + std::to_string(length) +
                                        " more do not fit. Deregister some, or register parts");
}

std::size_t Registry::size() const {
  const MutexLock lock(mutex_);
  return entries_.size();
}

Result<const std::byte*> Registry::add(Hixl* hixl, const std::byte* address, std::uint64_t length, MemoryKind kind) {
  std::shared_ptr<const void> unneeded;  // dropped without the lock
  {
    const MutexLock lock(mutex_);
    if (const auto it = holder(address, length); it != entries_.end()) {
      Entry& entry = entries_.at(it->first);
      ++entry.users;
      unneeded.swap(entry.last_owner);
      reaper_.drop(std::move(unneeded));
      return it->first;
    }
    if (overlaps(address, length)) {
      return Status(Code::kInvalidArgument,
                    "the memory overlaps some that is registered already, in part only; register whole allocations");
    }
    if (hixl != nullptr && kind == MemoryKind::kDevice) RAY_HIXL_RETURN_IF_ERROR(check_room(length));
  }
  void* handle = nullptr;
  if (hixl != nullptr) {
    const Outcome outcome = register_with(*hixl, address, length, kind, handle);
    if (!outcome.is_ok()) return refused(outcome, length, kind);
  }
  const MutexLock lock(mutex_);
  const std::uint64_t epoch = epoch_.load(std::memory_order_relaxed) + 1;
  entries_[address] = {length, kind, epoch, handle, 1, nullptr};
  epoch_.store(epoch, std::memory_order_release);
  return address;
}

Outcome Registry::register_with(Hixl& hixl, const std::byte* address, std::uint64_t length, MemoryKind kind, void*& handle) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  return kind == MemoryKind::kDevice ? hixl.register_device_memory(at, length, handle) : hixl.register_host_memory(at, length, handle);
}

Status Registry::refused(const Outcome& outcome, std::uint64_t length, MemoryKind kind) {
  const bool is_full = outcome.code == kResourceExhausted || is_out_of_memory(outcome.code);
  const bool is_device = kind == MemoryKind::kDevice;
  return Status(is_full ? Code::kOutOfMemory : Code::kNotAvailable,
                "HIXL does not register " + std::to_string(length) + " bytes of " + (is_device ? "device" : "host") +
                    " memory: " + outcome.text() +
                    (is_device ? ". Over HCCS memory must lie in 2 MiB pages and begin at a multiple of 2 MiB"
                               : ". HCCS takes none on A2; RoCE does (HCCL_INTRA_ROCE_ENABLE=1)"));
}

void Registry::unbind(Hixl& hixl) {
  take_out(&hixl, false);
  const MutexLock lock(mutex_);
  for (auto& [base, entry] : entries_) {
    (void)hixl.deregister_memory(entry.handle);  // finalizing it does the same
    entry.handle = nullptr;
  }
}

// Lookups go on meanwhile: it may take a while.
Status Registry::bind(Hixl& hixl) {
  std::vector<MemoryRange> all;
  {
    const MutexLock lock(mutex_);
    for (const auto& [base, entry] : entries_) all.push_back({const_cast<std::byte*>(base), entry.length, entry.kind});
  }
  std::vector<void*> handles;
  for (const MemoryRange& each : all) {
    void* handle = nullptr;
    const Outcome outcome = register_with(hixl, each.address, each.length, each.kind, handle);
    if (!outcome.is_ok()) return refused(outcome, each.length, each.kind);
    handles.push_back(handle);
  }
  const MutexLock lock(mutex_);
  for (std::size_t i = 0; i < all.size(); ++i) entries_.at(all[i].address).handle = handles[i];
  return Status::ok();
}

void Registry::remove(const std::byte* base, std::shared_ptr<const void> owner) {
  {
    const MutexLock lock(mutex_);
    const auto it = entries_.find(base);
    if (it != entries_.end() && --it->second.users == 0) it->second.last_owner.swap(owner);
  }
  reaper_.drop(std::move(owner));
}

void Registry::take_out(Hixl* hixl, bool all) {
  const auto let_go = [hixl](void* handle) { return hixl == nullptr || hixl->deregister_memory(handle).is_ok(); };
  std::vector<std::shared_ptr<const void>> owners;
  {
    const MutexLock lock(mutex_);
    for (auto it = entries_.begin(); it != entries_.end();) {
      if ((!all && it->second.users > 0) || (!let_go(it->second.handle) && !all)) {
        ++it;
        continue;
      }
      owners.push_back(std::move(it->second.last_owner));
      it = entries_.erase(it);
    }
  }
  for (auto& owner : owners) reaper_.drop(std::move(owner));
}

void Registry::collect(Hixl* hixl) { take_out(hixl, false); }
void Registry::clear(Hixl* hixl) { take_out(hixl, true); }

}  // namespace ray_hixl::transport::hixl
