// Acl: the entries of CANN's runtime (libacl_rt.so, before that libascendcl.so) that ray-hixl calls. Own declarations; every one is a plain
// C function whose int result is 0 or an error of that runtime.
//
// A device belongs to a thread: set_device() comes first in every thread of ours. aclFinalize and aclrtResetDevice are not here on purpose:
// they would end torch_npu's state, too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "ray_hixl/status.h"
#include "transport/hixl/library.h"

namespace ray_hixl::transport::hixl {

inline constexpr int kAclOk = 0;
inline constexpr int kAclRepeatedInit = 100002;  // somebody else did it: fine

struct Acl {
  int (*init)(const char* config) = nullptr;
  int (*set_device)(std::int32_t device) = nullptr;
  int (*get_device_count)(std::uint32_t* count) = nullptr;
  const char* (*get_soc_name)() = nullptr;      // may give null
  const char* (*get_recent_error)() = nullptr;  // fetches and clears this thread's; may give null
  int (*is_fake)() = nullptr;                   // tests' FAKE runtime has it, nothing else
  std::string path;                             // of the library, for people

  // kNotAvailable names what is missing.
  [[nodiscard]] static Result<Acl> load(const Places& places);
  // "<what>: error 107002: <what the runtime says of it>".
  [[nodiscard]] Status status(int error, const std::string& what) const;
};

}  // namespace ray_hixl::transport::hixl
