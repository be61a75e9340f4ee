// Acl: the entries of CANN's runtime (libacl_rt.so, before that libascendcl.so) that ray-hixl calls. Own declarations; every one is a plain
// C function whose int result is 0 or an error of that runtime.
//
// A device belongs to a thread: set_device() comes first in every thread of ours, and never in a thread of somebody else, whose device it
// would change. aclFinalize and aclrtResetDevice are not here on purpose: they would end torch_npu's state, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "ray_hixl/status.h"
#include "transport/hixl/cann/library.h"

namespace ray_hixl::transport::hixl {

inline constexpr int kAclOk = 0;
inline constexpr int kAclRepeatedInit = 100002;  // somebody else did it: fine
inline constexpr int kAclSyncTimeout = 507046;
inline constexpr int kAclHugeOnly = 1;  // policy of malloc: 2 MiB pages or nothing, which HCCS asks for
// Kinds of memcpy.
inline constexpr int kAclHostToDevice = 1;
inline constexpr int kAclDeviceToHost = 2;
inline constexpr int kAclDeviceToDevice = 3;

inline constexpr std::uint32_t kAclHostPinned = 0x10000000;  // flag of host_register

// What pointer_attributes() fills.
struct AclPointerAttributes {
  std::uint32_t device = 0;
  std::int32_t location = 0;  // 1: device memory
  std::uint32_t page_bytes = 0;
  std::uint32_t reserved[4] = {};
};
static_assert(sizeof(AclPointerAttributes) == 28);

struct Acl {
  int (*init)(const char* config) = nullptr;
  int (*set_device)(std::int32_t device) = nullptr;
  int (*get_device_count)(std::uint32_t* count) = nullptr;
  int (*get_current_context)(void** context) = nullptr;
  int (*set_current_context)(void* context) = nullptr;
  const char* (*get_soc_name)() = nullptr;      // may give null
  const char* (*get_recent_error)() = nullptr;  // fetches and clears this thread's; may give null
  int (*malloc)(void** address, std::size_t bytes, int policy) = nullptr;
  int (*free)(void* address) = nullptr;                             // at once, whatever still uses it
  int (*malloc_host)(void** address, std::size_t bytes) = nullptr;  // pinned
  int (*free_host)(void* address) = nullptr;
  int (*memcpy)(void* to, std::size_t most, const void* from, std::size_t bytes, int kind) = nullptr;
  int (*memcpy_async)(void* to, std::size_t most, const void* from, std::size_t bytes, int kind, void* stream) = nullptr;
  // Waits for all streams of the device. kAclSyncTimeout after `timeout_ms`.
  int (*synchronize_device)(std::int32_t timeout_ms) = nullptr;
  // A null stream is the default one of the thread's device.
  int (*create_event)(void** event) = nullptr;
  int (*record_event)(void* event, void* stream) = nullptr;
  int (*query_event)(void* event, int* status) = nullptr;  // 1: what was queued before its last record is done; 0: not yet
  int (*destroy_event)(void* event) = nullptr;

  // Null in older versions.
  int (*pointer_attributes)(const void* address, AclPointerAttributes* attributes) = nullptr;
  int (*address_range)(void* address, void** base, std::size_t* bytes) = nullptr;           // the allocation that holds an address
  int (*host_register)(void* address, std::uint64_t bytes, std::uint32_t flags) = nullptr;  // whole pages of ours
  int (*host_unregister)(void* address) = nullptr;
  int (*can_access_peer)(std::int32_t* can, std::int32_t device, std::int32_t peer) = nullptr;
  int (*enable_peer_access)(std::int32_t peer, std::uint32_t flags) = nullptr;
  // Takes the number that this process uses, as the vendor notes for both entries that have done it, whatever the older one's name says.
  int (*physical_device)(std::int32_t device, std::int32_t* physical) = nullptr;

  int (*is_fake)() = nullptr;  // tests' FAKE runtime has it, nothing else
  std::string path;            // of the library, for people

  // kNotAvailable names what is missing.
  [[nodiscard]] static Result<Acl> load(const Places& places);
  // "<what>: error 107002: <what the runtime says of it>". REQUIRES: in the thread that got the error, before its next call.
  [[nodiscard]] Status status(int error, const std::string& what) const;
  // What the runtime says of this thread's last error: ": <text>", or nothing.
  [[nodiscard]] std::string recent_error() const;
};

}  // namespace ray_hixl::transport::hixl
