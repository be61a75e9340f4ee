#include "transport/hixl/cann/acl.h"

#include <utility>
#include <vector>

#include "transport/hixl/cann/codes.h"

namespace ray_hixl::transport::hixl {

Result<Acl> Acl::load(const Places& places) {
  const Result<Library> library = Library::open({"libacl_rt.so", "libascendcl.so"}, places);
  if (!library.is_ok()) return library.status();
  Acl acl;
  acl.path = library->path();
  std::vector<std::string> missing;
  bind_required(*library, "aclInit", acl.init, missing);
  bind_required(*library, "aclrtSetDevice", acl.set_device, missing);
  bind_required(*library, "aclrtGetDeviceCount", acl.get_device_count, missing);
  bind_required(*library, "aclrtGetCurrentContext", acl.get_current_context, missing);
  bind_required(*library, "aclrtSetCurrentContext", acl.set_current_context, missing);
  bind_required(*library, "aclrtGetSocName", acl.get_soc_name, missing);
  bind_required(*library, "aclGetRecentErrMsg", acl.get_recent_error, missing);
  bind_required(*library, "aclrtMalloc", acl.malloc, missing);
  bind_required(*library, "aclrtFree", acl.free, missing);
  bind_required(*library, "aclrtMallocHost", acl.malloc_host, missing);
  bind_required(*library, "aclrtFreeHost", acl.free_host, missing);
  bind_required(*library, "aclrtMemcpy", acl.memcpy, missing);
  bind_required(*library, "aclrtMemcpyAsync", acl.memcpy_async, missing);
  bind_required(*library, "aclrtSynchronizeDeviceWithTimeout", acl.synchronize_device, missing);
  bind_required(*library, "aclrtCreateEvent", acl.create_event, missing);
  bind_required(*library, "aclrtRecordEvent", acl.record_event, missing);
  bind_required(*library, "aclrtQueryEventStatus", acl.query_event, missing);
  bind_required(*library, "aclrtDestroyEvent", acl.destroy_event, missing);
  bind_optional(*library, "aclrtPointerGetAttributes", acl.pointer_attributes);
  bind_optional(*library, "aclrtMemGetAddressRange", acl.address_range);
  bind_optional(*library, "aclrtHostRegisterV2", acl.host_register);
  bind_optional(*library, "aclrtHostUnregister", acl.host_unregister);
  bind_optional(*library, "aclrtDeviceCanAccessPeer", acl.can_access_peer);
  bind_optional(*library, "aclrtDeviceEnablePeerAccess", acl.enable_peer_access);
  bind_optional(*library, "aclrtGetPhyDevIdByUserDevId", acl.physical_device);
  if (acl.physical_device == nullptr) bind_optional(*library, "aclrtGetPhyDevIdByLogicDevId", acl.physical_device);
  bind_optional(*library, "fake_cann_is_fake", acl.is_fake);
  RAY_HIXL_RETURN_IF_ERROR(check_complete(*library, missing));
  return acl;
}

Status Acl::status(int error, const std::string& what) const {
  if (error == kAclOk) return Status::ok();
  return Status(is_out_of_memory(static_cast<std::uint32_t>(error)) ? Code::kOutOfMemory : Code::kNotAvailable,
                what + ": error " + std::to_string(error) + recent_error());
}

std::string Acl::recent_error() const {
  const char* const said = get_recent_error();
  return said == nullptr || *said == '\0' ? "" : std::string(": ") + said;
}

}  // namespace ray_hixl::transport::hixl
