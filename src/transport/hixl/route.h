// Route: the ops of a job between one device here and one device of the peer, and on either side its own memory or host memory. Pieces
// become ops, and neighbours one op: few long ops are several times faster than many short ones. No op goes beyond one registration on
// either side: HIXL would take it, a NIC may not.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <vector>

#include "control/messages.h"
#include "ray_hixl/status.h"
#include "transport/hixl/cann/api.h"
#include "transport/hixl/driver/registry.h"
#include "transport/hixl/locator.h"
#include "transport/job.h"

namespace ray_hixl::transport::hixl {

struct Ends {
  std::int32_t local = 0;
  std::int32_t remote = 0;
  bool host_here = false;  // pinned host memory, which the device's engine knows
  bool host_there = false;
  [[nodiscard]] bool has_host() const { return host_here || host_there; }
  friend auto operator<=>(const Ends&, const Ends&) = default;
};

struct Route : Ends {
  std::uint64_t remote_epoch = 0;  // from which on the peer's bytes can be reached,
  std::uint64_t local_epoch = 0;   // and ours
  std::uint64_t bytes = 0;         // payload: an op may also move the padding between two tensors
  std::vector<OpDesc> ops;
  int descriptions = 0;  // of the peer's engine that were asked for again
};

// The registration of these bytes of a device here, if there is one: device::Device::find().
using FindLocal = std::function<std::optional<Registered>(std::int32_t device, const std::byte* address, std::uint64_t length)>;

// `located`: by source, where pieces came without addresses. kInvalidRegion where a piece does not lie in the peer's device memory.
[[nodiscard]] Result<std::vector<Route>> make_routes(const Plan& plan, const std::vector<Piece>& pieces,
                                                     const std::vector<Locator::Ranges>& located, const FindLocal& find_local);

}  // namespace ray_hixl::transport::hixl
