// The reader's half of staged: what comes for device memory goes through two buffers, one of which is received into while the other one is
// copied to the device.
#pragma once

#include <functional>
#include <memory>

#include "device/devices.h"
#include "transport/stream/carrier.h"

namespace ray_hixl::transport::staged {

// See stream::Carrier: null if all of the job's memory is the host's.
[[nodiscard]] std::shared_ptr<stream::Inflow> open_inflow(const std::shared_ptr<device::Devices>& devices, const std::shared_ptr<Job>& job,
                                                          std::function<void()> more);

}  // namespace ray_hixl::transport::staged
