// Cann: what of CANN is on this machine. The first thing that anything about NPUs asks.
#pragma once

#include <cstdint>
#include <string>

#include "ray_hixl/status.h"
#include "transport/hixl/cann/acl.h"
#include "transport/hixl/cann/api.h"
#include "transport/hixl/cann/library.h"

namespace ray_hixl::transport::hixl {

struct Cann {
  Acl acl;
  Status hixl;  // ok, or what is missing of HIXL: then there is no api, and the runtime alone can be used
  Api api;
  std::string soc;             // "Ascend910B3"; "unknown" where the runtime does not say
  std::uint32_t devices = 0;   // visible to this process
  bool client_server = false;  // api.has_client_server()
  bool is_fake = false;        // the FAKE libraries of the tests

  // Loads the runtime and, if it is there, HIXL, and counts devices; makes no context. kNotAvailable says what is missing and what to do
  // about it.
  // `allow_fake`: otherwise the FAKE libraries are refused, so that nobody takes them for an NPU.
  [[nodiscard]] static Result<Cann> find(const Places& places, bool allow_fake);
  // What this process uses: looked for once, as the environment says, at the first call. The libraries stay. kNotAvailable in a forked
  // child of a process that looked for it. Any thread.
  [[nodiscard]] static const Result<Cann>& get();

  // The number of the device that npu-smi and peers of other processes know, by the index that this process uses; the same where this
  // version of CANN does not tell.
  [[nodiscard]] std::int32_t physical_device(std::int32_t device) const;
};

// $RAY_HIXL_ALLOW_FAKE_CANN is 1: for tests.
[[nodiscard]] bool fake_cann_is_allowed();

}  // namespace ray_hixl::transport::hixl
