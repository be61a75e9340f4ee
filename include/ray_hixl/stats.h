// Counters of an engine, as plain values. Read-only snapshots; all counts since the engine was created unless said.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ray_hixl {

// Bytes that one transport moved.
struct TransportBytes {
  std::string transport;  // "local", "shm", "cma", "stream", "hixl"
  std::uint64_t bytes = 0;
};

struct ArenaStats {
  std::uint64_t segments = 0;      // mapped now
  std::uint64_t mapped_bytes = 0;  // mapped now
  // Of mapped segments now: bytes that the kernel put into huge pages when they were taken. Linux before 6.1 does not say. 0 of slabs.
  std::uint64_t huge_bytes = 0;
  std::uint64_t used_bytes = 0;   // in live blocks now
  std::uint64_t live_blocks = 0;  // now
  // Now: in dead blocks that are not used again before their whole segment is free, because forked children share their pages. Above the
  // arena's keep option new blocks are private memory. Always 0 of slabs.
  std::uint64_t retained_bytes = 0;
  std::uint64_t allocations = 0;
  std::uint64_t recycled = 0;  // allocations served without new memory
};

// One NPU that this engine has used. Links of HIXL are counted apart from the engine's own.
struct DeviceStats {
  std::int32_t device = 0;          // index as this process sees it
  std::string unlinkable;           // why HIXL is not used on it, so that its memory is staged; empty where it is
  std::string unpinned;             // why HIXL did not take pinned host memory here the last time; empty where it did
  std::uint64_t registrations = 0;  // allocations that HIXL knows now
  std::uint64_t epoch = 0;          // rises with every registration
  std::uint64_t connects = 0;       // begun
  std::uint64_t connects_failed = 0;
  std::uint64_t disconnects_failed = 0;
  std::uint64_t refreshes = 0;      // links made anew because memory was registered after they had been made
  std::uint64_t links_broken = 0;   // taken down because something failed or nobody used them any more
  std::uint64_t links_yielded = 0;  // taken down after idle_timeout_s, or since another peer's turn came (hixl_max_links)
  std::uint64_t unused_bytes = 0;   // registered memory that nobody uses any more, until peers let go
  std::uint64_t renewals = 0;       // HIXL's engine was replaced by a fresh one
  std::uint64_t retries = 0;        // transfers tried again on another link
  std::uint64_t requests = 0;       // that HIXL took: one for each 4096 ops
  std::uint64_t exhausted = 0;      // that HIXL had no room for at first
  ArenaStats slabs;
};

struct Stats {
  // As the reader of bytes.
  std::vector<TransportBytes> fetched;    // payload bytes received, by transport
  std::uint64_t staged_mapped_bytes = 0;  // of those of staged: copied out of memory of the owner that is mapped here
  std::uint64_t transfers_started = 0;    // batches and fetches
  std::uint64_t transfers_succeeded = 0;
  std::uint64_t transfers_failed = 0;     // includes timed out and cancelled
  std::uint64_t transfers_in_flight = 0;  // now
  std::uint64_t quarantined_bytes = 0;    // now: memory of ended transfers that something may still write to
  // As the owner of bytes.
  std::uint64_t regions = 0;  // registered now
  std::uint64_t objects = 0;  // published and not yet released, now
  std::uint64_t objects_published = 0;
  std::uint64_t resolved = 0;      // slots whose addresses peers asked for
  std::uint64_t served_bytes = 0;  // payload bytes this engine itself sent or staged (stream, staged)
  // Links.
  std::uint64_t links = 0;     // open now, as the connecting side
  std::uint64_t sessions = 0;  // open now, as the accepting side
  std::uint64_t links_lost = 0;
  std::uint64_t handshakes_refused = 0;  // as the accepting side
  // CPU time of the longest turn of the event loop, for which everything else on it waited.
  double longest_turn_s = 0;
  ArenaStats source;
  ArenaStats landing;
  std::vector<DeviceStats> devices;
};

}  // namespace ray_hixl
