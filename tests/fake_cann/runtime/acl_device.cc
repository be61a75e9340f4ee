// Start, devices and contexts.
#include <unistd.h>

#include <atomic>
#include <cstdint>

#include "runtime/calls.h"
#include "runtime/heap.h"

using namespace fake_cann;

namespace {

std::atomic<bool> initialised{false};
constexpr std::intptr_t kFirstContext = 0x1000;  // contexts are numbers: one per device, as the shared default one

int check_device(const char* name, int device) {
  const auto count = static_cast<int>(visible_devices().size());
  if (device >= 0 && device < count) return kOk;
  return fail(kBadDevice, std::string(name) + ": invalid device " + std::to_string(device) + ", " + std::to_string(count) + " visible");
}

}  // namespace

extern "C" {

int aclInit(const char*) {
  FAKE_CANN_ENTER();
  return initialised.exchange(true) ? fail(kRepeatedInit, "aclInit: already initialised") : static_cast<int>(kOk);
}

// Ends the NPU state of the whole process, torch_npu's included.
int aclFinalize(void) {
  FAKE_CANN_ENTER();
  check_not_forbidden(__func__, __builtin_return_address(0));
  initialised = false;
  return kOk;
}

const char* aclrtGetSocName(void) {
  (void)enter(__func__);
  static const std::string& name = *new std::string(text_switch("FAKE_CANN_SOC", "Ascend950PR_9599"));
  return name.c_str();
}

int aclrtGetVersion(std::int32_t* major, std::int32_t* minor, std::int32_t* patch) {
  FAKE_CANN_ENTER();
  *major = 1;
  *minor = *patch = 0;
  return kOk;
}

int aclrtSetDevice(std::int32_t device) {
  FAKE_CANN_ENTER();
  if (const int bad = check_device(__func__, device); bad != kOk) return bad;
  set_current_device(device);
  return kOk;
}

int aclrtResetDevice(std::int32_t) {
  FAKE_CANN_ENTER();
  check_not_forbidden(__func__, __builtin_return_address(0));
  return kOk;
}

int aclrtGetDevice(std::int32_t* device) {
  FAKE_CANN_ENTER();
  if (current_device() < 0) return fail(kNoContext, "aclrtGetDevice: this thread has no context");
  *device = current_device();
  return kOk;
}

int aclrtGetDeviceCount(std::uint32_t* count) {
  FAKE_CANN_ENTER();
  *count = static_cast<std::uint32_t>(visible_devices().size());
  return kOk;
}

int aclrtGetCurrentContext(void** context) {
  FAKE_CANN_ENTER();
  if (current_device() < 0) return fail(kNoContext, "aclrtGetCurrentContext: this thread has no context");
  *context = reinterpret_cast<void*>(kFirstContext + current_device());
  return kOk;
}

int aclrtSetCurrentContext(void* context) {
  FAKE_CANN_ENTER();
  const std::intptr_t device = reinterpret_cast<std::intptr_t>(context) - kFirstContext;
  if (context == nullptr || check_device(__func__, static_cast<int>(device)) != kOk) {
    return fail(kBadParameter, "aclrtSetCurrentContext: no such context");
  }
  set_current_device(static_cast<int>(device));
  return kOk;
}

int aclrtGetPrimaryCtxState(std::int32_t device, std::uint32_t* flags, std::int32_t* active) {
  FAKE_CANN_ENTER();
  if (flags != nullptr) *flags = 0;
  *active = check_device(__func__, device) == kOk ? 1 : 0;
  return kOk;
}

int aclrtDeviceGetBareTgid(std::int32_t* pid) {
  FAKE_CANN_ENTER();
  *pid = ::getpid();
  return kOk;
}

int aclrtDeviceCanAccessPeer(std::int32_t* can, std::int32_t, std::int32_t) {
  FAKE_CANN_ENTER();
  *can = 1;
  return kOk;
}

int aclrtDeviceEnablePeerAccess(std::int32_t, std::uint32_t) {
  FAKE_CANN_ENTER();
  return kOk;
}

int aclrtGetLogicDevIdByUserDevId(std::int32_t user, std::int32_t* logic) {
  FAKE_CANN_ENTER();
  if (const int bad = check_device(__func__, user); bad != kOk) return bad;
  *logic = visible_devices()[static_cast<std::size_t>(user)];
  return kOk;
}

}  // extern "C"
