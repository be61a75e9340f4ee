// Counters of one device's driver. Relaxed atomics: each is exact, no two are read at one instant.
#pragma once

#include <atomic>
#include <cstdint>

namespace ray_hixl::transport::hixl {

struct DriverCounters {
  std::atomic<std::uint64_t> connects{0};
  std::atomic<std::uint64_t> connects_failed{0};
  std::atomic<std::uint64_t> disconnects_failed{0};
  std::atomic<std::uint64_t> refreshes{0};  // links made anew for newer memory
  std::atomic<std::uint64_t> links_broken{0};
  std::atomic<std::uint64_t> links_yielded{0};  // taken down unused, or for others
  std::atomic<std::uint64_t> renewals{0};       // engines replaced by a fresh one
  std::atomic<std::uint64_t> retries{0};        // moves tried again on another link
  std::atomic<std::uint64_t> requests{0};       // that HIXL took
  std::atomic<std::uint64_t> exhausted{0};      // that HIXL had no room for
};

}  // namespace ray_hixl::transport::hixl
