// Split: which channel reads which pieces of a plan.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "link/flight_host.h"
#include "link/resolver.h"
#include "transport/job.h"

namespace ray_hixl::link {

using Shares = std::vector<std::shared_ptr<const transport::Share>>;  // by candidate; null: it reads nothing

// What a link learned of a plan that is read often (transport::Plan::kept).
struct Known {
  std::shared_ptr<const Resolutions> resolutions;  // null: nothing is read by address
  std::uint64_t paths = 0;                         // whose `shares` are (Paths::id); 0: it is split anew
  Shares shares;
};
[[nodiscard]] std::shared_ptr<const Known> known_of(const transport::Plan& plan);  // null: nothing yet

struct SplitTerms {
  const Candidate* pins = nullptr;   // moves pinned memory as such; null: it is taken for what it is otherwise
  const Candidate* after = nullptr;  // turned out not to move these pieces; null: none did
};

// Is anything in host memory on both sides? Pinned or not: though HIXL knows its own addresses, it may have to go the other ways.
[[nodiscard]] bool reads_host_memory(const transport::Plan& plan);

// Some of the plan's pieces, each to the best channel for the memory that it lies in, one piece for each range that it touches.
// `resolutions`: where the sources' bytes lie; null if none is read by address. Any thread. kInvalidRegion if a piece lies outside of its
// source or where nobody reads it, kNotAvailable with the reasons if no channel reads such memory.
[[nodiscard]] Result<Shares> split(FlightHost& host, const transport::Plan& plan, const Resolutions* resolutions,
                                   const std::vector<transport::Piece>& pieces, SplitTerms terms);

// Few pieces of host memory, if nobody has to be asked where they lie; the plan keeps it, unless it is for one transfer. Null otherwise,
// and where split() fails. Any thread.
[[nodiscard]] std::shared_ptr<const Known> split_now(FlightHost& host, const transport::Plan& plan);

}  // namespace ray_hixl::link
