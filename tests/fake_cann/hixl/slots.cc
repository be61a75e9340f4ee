#include "hixl/slots.h"

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "hixl/counters.h"
#include "hixl/fake_hixl.h"
#include "hixl/faults.h"

namespace fake_hixl {
namespace {

struct Slot {
  std::shared_ptr<Notify> notify = std::make_shared<Notify>();
  std::shared_ptr<SlotStream> stream = std::make_shared<SlotStream>();
  std::shared_ptr<const Lease> taken;  // by whom last; null while it is free
};

// What was recorded before is reset; what is still on its way is not stopped.
void abort_stream(Slot& slot) {
  slot.stream->is_aborted = true;
  slot.stream = std::make_shared<SlotStream>();
  slot.notify->abort();
}

struct Pool {
  std::mutex mutex;
  long engines = 0;  // guarded by mutex, as below
  std::vector<Slot> slots;
  std::deque<std::size_t> free;
};

struct Pools {
  std::mutex mutex;
  std::map<int, Pool> by_device;  // guarded by mutex; a pool stays
};

Pools& pools() {
  static Pools& instance = *new Pools;
  return instance;
}

Pool& pool_of(int device) {
  const std::lock_guard lock(pools().mutex);
  return pools().by_device[device];
}

// REQUIRES: the pool's mutex is held. Null unless the number is that of a slot that somebody has.
Slot* taken_slot(Pool& pool, const Lease& lease) {
  if (lease.index() >= pool.slots.size() || pool.slots[lease.index()].taken == nullptr) return nullptr;
  return &pool.slots[lease.index()];
}

std::uint64_t count_slots(bool (*counts)(const Slot&)) {
  std::vector<Pool*> all;
  {
    const std::lock_guard lock(pools().mutex);
    for (auto& [device, pool] : pools().by_device) all.push_back(&pool);
  }
  std::uint64_t count = 0;
  for (Pool* pool : all) {
    const std::lock_guard lock(pool->mutex);
    for (const Slot& slot : pool->slots) count += counts(slot) ? 1 : 0;
  }
  return count;
}

}  // namespace

Status attach_slots(int device, long count) {
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  const auto wanted = static_cast<std::size_t>(count);
  if (pool.engines > 0 && pool.slots.size() != wanted) {
    return fail(hixl::kParamInvalid, "max_active_channels " + std::to_string(count) +
                                         ": another engine of this process on the device uses " + std::to_string(pool.slots.size()));
  }
  if (++pool.engines > 1) return hixl::kSuccess;
  pool.slots.resize(wanted);
  for (std::size_t index = 0; index < wanted; ++index) pool.free.push_back(index);
  return hixl::kSuccess;
}

void detach_slots(int device) {
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  if (--pool.engines > 0) return;
  for (Slot& slot : pool.slots) {
    if (slot.taken != nullptr) abort_stream(slot);
  }
  pool.slots.clear();
  pool.free.clear();
}

std::shared_ptr<const Lease> take_slot(int device) {
  Pool& pool = pool_of(device);
  const std::lock_guard lock(pool.mutex);
  if (pool.free.empty()) return nullptr;
  const std::size_t index = pool.free.front();
  pool.free.pop_front();
  Slot& slot = pool.slots[index];
  return slot.taken = std::make_shared<const Lease>(device, index, slot.notify, slot.stream);
}

void give_slot_back(const Lease& lease) {
  Pool& pool = pool_of(lease.device());
  const std::lock_guard lock(pool.mutex);
  Slot* const slot = taken_slot(pool, lease);
  if (slot == nullptr) return;
  slot->taken = nullptr;
  pool.free.push_back(lease.index());
}

// The pool stays locked while the thread is freed, which a kernel of the device does: all links of the device wait meanwhile.
void abort_slot(const Lease& lease) {
  Pool& pool = pool_of(lease.device());
  {
    const std::lock_guard lock(pool.mutex);
    Slot* const slot = taken_slot(pool, lease);
    if (slot == nullptr) return;
    count_abort(slot->taken.get() != &lease);
    abort_stream(*slot);
    std::this_thread::sleep_for(abort_hold());
    slot->taken = nullptr;
    pool.free.push_back(lease.index());
  }
  std::this_thread::sleep_for(abort_gap());
}

}  // namespace fake_hixl

using namespace fake_hixl;

extern "C" {

std::uint64_t fake_hixl_slots(void) {
  return count_slots([](const Slot&) { return true; });
}
std::uint64_t fake_hixl_taken_slots(void) {
  return count_slots([](const Slot& slot) { return slot.taken != nullptr; });
}
std::uint64_t fake_hixl_tainted_slots(void) {
  return count_slots([](const Slot& slot) { return slot.notify->is_recorded(); });
}

}  // extern "C"
