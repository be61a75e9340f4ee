// What a transport has brought, as it is counted.
#pragma once

#include <cstddef>
#include <cstdint>

#include "control/kinds.h"
#include "transport/counters.h"
#include "transport/transfer_state.h"

namespace ray_hixl::transport {

// For the transfer and for the engine. Any thread.
inline void count_fetched(TransferState& transfer, Counters& counters, control::TransportKind kind, std::uint64_t bytes) {
  transfer.add_bytes(kind, bytes);
  counters.fetched[static_cast<std::size_t>(kind)].fetch_add(bytes, std::memory_order_relaxed);
}

}  // namespace ray_hixl::transport
