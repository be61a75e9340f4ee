// Counters of an engine that several layers add to. Relaxed atomics: each is exact, no two are read at one instant.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "control/kinds.h"

namespace ray_hixl::transport {

struct Counters {
  std::array<std::atomic<std::uint64_t>, control::kTransportKinds> fetched{};  // payload bytes of transfers, by transport
  std::atomic<std::uint64_t> staged_mapped{0};                                 // of those of staged: copied out of segments of the owners
  std::atomic<std::uint64_t> transfers_started{0};
  std::atomic<std::uint64_t> transfers_succeeded{0};
  std::atomic<std::uint64_t> transfers_failed{0};
  std::atomic<std::uint64_t> transfers_in_flight{0};
  std::atomic<std::uint64_t> quarantined_bytes{0};
  std::atomic<std::uint64_t> resolved{0};
  std::atomic<std::uint64_t> served_bytes{0};
  std::atomic<std::uint64_t> links{0};
  std::atomic<std::uint64_t> sessions{0};
  std::atomic<std::uint64_t> links_lost{0};
  std::atomic<std::uint64_t> handshakes_refused{0};
};

}  // namespace ray_hixl::transport
