// The hixl transport: see transport.cc for the owner's half, channel.h for the reader's.
#pragma once

#include <memory>

#include "transport/hixl/devices.h"
#include "transport/transport.h"

namespace ray_hixl::transport::hixl {

// Touches nothing of CANN until device memory is used. `devices` are shared with the engine.
[[nodiscard]] std::unique_ptr<Transport> create(const Context& context, std::shared_ptr<Devices> devices);

}  // namespace ray_hixl::transport::hixl
