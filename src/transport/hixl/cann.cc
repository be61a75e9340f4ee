#include "transport/hixl/cann.h"

#include <cstdlib>
#include <string_view>
#include <utility>

namespace ray_hixl::transport::hixl {
namespace {

constexpr const char* kHixlConstructor = "_ZN4hixl4HixlC1Ev";

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
  Result<Library> hixl = Library::open({"libcann_hixl.so"}, places);
  if (!hixl.is_ok()) return hixl.status();
  if (hixl->symbol(kHixlConstructor) == nullptr) {
    return Status(Code::kNotAvailable, hixl->path() + " has no class hixl::Hixl: it is not the HIXL of CANN 8.5 or later");
  }
  std::string soc = soc_of(*acl);
  return Cann{*std::move(acl), *std::move(hixl), std::move(soc), *devices, is_fake};
}

bool fake_cann_is_allowed() {
  const char* const text = std::getenv("RAY_HIXL_ALLOW_FAKE_CANN");
  return text != nullptr && std::string_view(text) == "1";
}

Status probe() {
  const Result<Cann> cann = Cann::find(places_from_environment(), fake_cann_is_allowed());
  if (!cann.is_ok()) return cann.status();
  return Status(Code::kNotAvailable, std::string(cann->is_fake ? "a FAKE CANN" : "CANN") + " is here (" + std::to_string(cann->devices) +
                                         " x " + cann->soc + ", " + cann->acl.path + ", " + cann->hixl.path() +
                                         "), but this version of ray-hixl does not move NPU memory yet");
}

}  // namespace ray_hixl::transport::hixl
