// What the folder of each transport defines: one pair of functions in a namespace of its name; and what the one of device memory does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "transport/transport.h"

#define RAY_HIXL_TRANSPORT(name, kind, number, memory)                                                                    \
  namespace ray_hixl::transport::name {                                                                                   \
  /* ok, or a sentence (kNotAvailable) why this machine cannot do it and what to do about it. Needs no engine. */         \
  [[nodiscard]] Status probe();                                                                                           \
  /* REQUIRES: probe() is ok, unless it moves device memory: then nothing of its runtime is touched before it is used. */ \
  [[nodiscard]] std::unique_ptr<Transport> create(const Context& context);                                                \
  }
#include "base/transports.def"

namespace ray_hixl::transport {

// The NPUs of an engine: its contexts have them as `devices` if hixl is among its transports. `source`: its source arena. `loaded` is told
// when one was started, and so the libraries that it needs were loaded. Both references outlive them.
[[nodiscard]] std::shared_ptr<device::Devices> create_devices(const Options& options, memory::Reaper& reaper,
                                                              std::shared_ptr<memory::Arena> source, std::function<void()> loaded);

// What of the NPUs' runtime this process uses.
struct DeviceRuntime {
  std::string runtime;  // paths of the libraries
  std::string hixl;     // empty where HIXL is not there,
  std::string no_hixl;  // and why not
  std::string hixl_version;
  std::string soc;                     // "Ascend910B3"; "unknown" where the runtime does not say
  std::vector<std::int32_t> physical;  // of each visible NPU: as npu-smi and hccn_tool number them
  bool client_server = false;          // HIXL links two engines of one NPU, too
  bool is_fake = false;                // the FAKE libraries of the tests
};
// Loads it at the first call. kNotAvailable says what is missing.
[[nodiscard]] Result<DeviceRuntime> device_runtime();

}  // namespace ray_hixl::transport
