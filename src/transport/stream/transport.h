// What stream and the transports over its connections are: one of these each, with a carrier of its own.
#pragma once

#include <memory>

#include "transport/stream/carrier.h"
#include "transport/transport.h"

namespace ray_hixl::transport::stream {

[[nodiscard]] std::unique_ptr<Transport> transport_of(const Context& context, Carrier carrier);

}  // namespace ray_hixl::transport::stream
