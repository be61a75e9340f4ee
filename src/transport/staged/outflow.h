// The owner's half of staged: the payload of an answer comes out of device memory part by part, a few parts ahead of what is sent.
#pragma once

#include <functional>
#include <memory>

#include "device/devices.h"
#include "transport/stream/carrier.h"

namespace ray_hixl::transport::staged {

// See stream::Carrier.
[[nodiscard]] std::unique_ptr<stream::Outflow> open_outflow(const std::shared_ptr<device::Devices>& devices, std::int32_t device,
                                                            stream::NextRange payload, std::shared_ptr<const void> keep,
                                                            std::function<void()> more);

}  // namespace ray_hixl::transport::staged
