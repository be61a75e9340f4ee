// Liveness: asks an owner whether slots are still live, where its generation table is not mapped.
#pragma once

#include <functional>
#include <vector>

#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "transport/transport.h"

namespace ray_hixl::transport {

// Any thread. `answer` runs once: ok if all of them were live when the owner was asked, else the first reason why not (kInvalidRegion, or
// what became of the link). One round trip, or several at once for very many handles. Never remembered.
void ask_live(Port& port, const std::vector<Handle>& handles, std::function<void(Status)> answer);

}  // namespace ray_hixl::transport
