// What a publish or a fetch waits for on devices: the work that its caller queued before.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "base/deadline.h"
#include "engine/engine_impl.h"
#include "ray_hixl/objects.h"
#include "ray_hixl/status.h"

namespace ray_hixl {

// One fence on each of the devices, all of them set before any is waited for. `call` is "the fetch". kDeviceBusy at the deadline; what the
// engine says once it was closed.
[[nodiscard]] Status wait_for_devices(EngineImpl& engine, DeviceOps& ops, const std::set<std::int32_t>& devices, Deadline deadline,
                                      const std::string& call);

}  // namespace ray_hixl
