#include "hixl/slots.h"

#include <mutex>

namespace fake_hixl {
namespace {

struct Slots {
  std::mutex mutex;
  long engines = 0;  // guarded by mutex, as below
  long count = 0;
  long taken = 0;
};

Slots& slots() {
  static Slots& instance = *new Slots;
  return instance;
}

}  // namespace

Status attach_slots(long count) {
  const std::lock_guard lock(slots().mutex);
  if (slots().engines > 0 && slots().count != count) {
    return fail(hixl::kParamInvalid,
                "max_active_channels " + std::to_string(count) + ": another engine of this process uses " + std::to_string(slots().count));
  }
  ++slots().engines;
  slots().count = count;
  return hixl::kSuccess;
}

void detach_slots() {
  const std::lock_guard lock(slots().mutex);
  --slots().engines;
}

bool take_slot() {
  const std::lock_guard lock(slots().mutex);
  if (slots().taken >= slots().count) return false;
  ++slots().taken;
  return true;
}

void give_slot_back() {
  const std::lock_guard lock(slots().mutex);
  --slots().taken;
}

}  // namespace fake_hixl
