#include "transport/hixl/cann/cann.h"

#include <atomic>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/fork.h"

namespace ray_hixl::transport::hixl {
namespace {

Result<std::uint32_t> count_devices(const Acl& acl) {
  if (const int error = acl.init(nullptr); error != kAclOk && error != kAclRepeatedInit) {
    return acl.status(error, "aclInit of " + acl.path);
  }
  std::uint32_t count = 0;
  if (const int error = acl.get_device_count(&count); error != kAclOk) return acl.status(error, "aclrtGetDeviceCount of " + acl.path);
  if (count > 0) return count;
  return Status(Code::kNotAvailable,
                acl.path + " sees no NPU: is the driver installed (npu-smi info), and does ASCEND_RT_VISIBLE_DEVICES name one?");
}

std::string soc_of(const Acl& acl) {
  const char* const name = acl.get_soc_name();
  return name == nullptr ? "unknown" : name;
}

// What this process uses; null until it was looked for.
std::atomic<const Result<Cann>*> in_use{nullptr};
std::atomic<bool> is_looked_for{false};
const Result<Cann>& left_behind = *new Result<Cann>(
    Status(Code::kNotAvailable, "the process that forked this one uses CANN, which does not survive a fork: start processes by spawn"));

// CANN's state is copied and its threads are not, also where it was only being loaded. Where there is none the child may say the same.
void leave_behind() {
  const Result<Cann>* const known = in_use.load();
  if (is_looked_for.load() && (known == nullptr || known->is_ok())) in_use.store(&left_behind);
}
const bool kLeftInChild = on_fork(nullptr, nullptr, leave_behind);

}  // namespace

Result<Cann> Cann::find(const Places& places, bool allow_fake) {
  Result<Acl> acl = Acl::load(places);
  if (!acl.is_ok()) return acl.status();
  const bool is_fake = acl->is_fake != nullptr;
  if (is_fake && !allow_fake) {
    return Status(Code::kNotAvailable,
                  acl->path +
                      " is the FAKE CANN of ray-hixl's tests, which is no NPU. Take it out of LD_LIBRARY_PATH; tests set "
                      "RAY_HIXL_ALLOW_FAKE_CANN=1");
  }
  const Result<std::uint32_t> devices = count_devices(*acl);
  if (!devices.is_ok()) return devices.status();
  Result<Api> api = Api::load(places);
  Cann cann{*std::move(acl), api.status(), {}, {}, *devices, false, is_fake};
  cann.soc = soc_of(cann.acl);
  if (!api.is_ok()) return cann;
  cann.api = *std::move(api);
  cann.client_server = cann.api.has_client_server();
  return cann;
}

const Result<Cann>& Cann::get() {
  if (const Result<Cann>* known = in_use.load()) return *known;
  is_looked_for.store(true);
  static const Result<Cann>& found = *new Result<Cann>(find(places_from_environment(), fake_cann_is_allowed()));
  in_use.store(&found);
  return found;
}

std::int32_t Cann::physical_device(std::int32_t device) const {
  std::int32_t physical = device;
  return acl.physical_device != nullptr && acl.physical_device(device, &physical) == kAclOk ? physical : device;
}

bool fake_cann_is_allowed() {
  const char* const text = std::getenv("RAY_HIXL_ALLOW_FAKE_CANN");
  return text != nullptr && std::string_view(text) == "1";
}

}  // namespace ray_hixl::transport::hixl
