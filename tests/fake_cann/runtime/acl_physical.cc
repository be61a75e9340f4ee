// Physical numbers of devices.
#include <cstdint>
#include <cstdlib>

#include "runtime/calls.h"
#include "runtime/heap.h"

using namespace fake_cann;

namespace {

int to_physical(const char* name, std::int32_t user, std::int32_t* physical) {
  const auto& devices = visible_devices();
  if (user < 0 || static_cast<std::size_t>(user) >= devices.size() || physical == nullptr) {
    return fail(kBadDevice, std::string(name) + ": invalid device " + std::to_string(user));
  }
  *physical = devices[static_cast<std::size_t>(user)];
  return kOk;
}

int physical_of_user(std::int32_t user, std::int32_t* physical) {
  constexpr const char* kName = "aclrtGetPhyDevIdByUserDevId";
  return enter(kName) ? to_physical(kName, user, physical) : fail(kUnsupported, std::string(kName) + " is hidden by a switch");
}

}  // namespace

extern "C" {

// The name says logic, and the vendor's note on it says what it takes: the user's number, an index into the visible devices.
int aclrtGetPhyDevIdByLogicDevId(std::int32_t user, std::int32_t* physical) {
  FAKE_CANN_ENTER();
  return to_physical(__func__, user, physical);
}

using ToPhysical = int (*)(std::int32_t, std::int32_t*);

// Asked by the dynamic linker, also for dlsym: null is how an entry is not there that the library was linked with.
__attribute__((no_sanitize("address", "thread", "undefined"))) ToPhysical resolve_physical_of_user() {
  const char* const older = std::getenv("FAKE_CANN_BEFORE_92");
  return older != nullptr && *older == '1' ? nullptr : physical_of_user;
}

int aclrtGetPhyDevIdByUserDevId(std::int32_t user, std::int32_t* physical) __attribute__((ifunc("resolve_physical_of_user")));

}  // extern "C"
