#include "hixl/handle.h"

#include "hixl/counters.h"
#include "runtime/fake_cann.h"

namespace fake_hixl {
namespace {

void forbid(const std::string& what) { fake_cann_forbid(("FAKE HIXL: " + what).c_str()); }

}  // namespace

Call::Call(hixl::Handle& handle, const char* name, NeedsContext needs) : handle_(handle), name_(name) {
  count_call(name);
  if (needs == NeedsContext::kYes && fake_cann_current_device() < 0) {
    forbid(std::string(name) + " was called by a thread without a context (aclrtSetDevice)");
  }
  const std::lock_guard lock(handle.mutex);
  if (handle.is_exclusive) forbid(std::string(name) + " was called while Initialize or Finalize runs");
  ++handle.calls;
  engine_ = handle.engine;
}

Call::~Call() {
  const std::lock_guard lock(handle_.mutex);
  --handle_.calls;
}

Status Call::not_initialised() const { return fail(hixl::kFailed, std::string(name_) + ": not initialised"); }

ExclusiveCall::ExclusiveCall(hixl::Handle& handle, const char* name) : handle_(handle) {
  count_call(name);
  const std::lock_guard lock(handle.mutex);
  if (handle.calls > 0 || handle.is_exclusive) forbid(std::string(name) + " was called while another call runs");
  handle.is_exclusive = true;
}

ExclusiveCall::~ExclusiveCall() {
  const std::lock_guard lock(handle_.mutex);
  handle_.is_exclusive = false;
}

}  // namespace fake_hixl
