// Move: ops between one device here and one engine of a peer, on their way through a device's driver. Ends exactly once.
//
// Made by a channel; from Driver::submit() on only the driver's thread touches it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "transport/hixl/cann/api.h"
#include "transport/transfer_state.h"

namespace ray_hixl::transport::hixl {

struct Move {
  std::vector<OpDesc> ops;            // none is empty
  std::uint64_t remote_epoch = 0;     // the link must know the peer's memory as of this epoch,
  std::uint64_t local_epoch = 0;      // and ours as of this one
  std::uint64_t described_epoch = 0;  // the peer's when it told of itself: what a link that is made later shows at least
  std::shared_ptr<TransferState> transfer;
  const void* channel = nullptr;  // whose it is, for Driver::abandon()
  Incarnation owner{};            // the life of the peer that is meant
  // When it waits for a link no more, although it has time left: another transport is to have some of that.
  Deadline gives_way_at = Deadline::never();
  // Runs once, when nothing writes to the local memory for this move any more.
  std::function<void(const Status&)> done;

  std::size_t submitted = 0;         // ops
  std::size_t in_flight = 0;         // requests
  int attempts = 0;                  // links that failed under it, or could not be made for it
  bool recalled = false;             // it ended since the peer took its engine for itself: it is to be described anew
  bool refused = false;              // it ended since HIXL answered every connect with FAILED, although somebody may be there
  bool gave_way = false;             // it ended since that came
  bool lost = false;                 // a request of it failed: nothing of it ends before its link is down
  bool refreshed = false;            // a link was made anew because it did not know this move's memory
  Status failure;                    // it ends with this once nothing is in flight
  std::optional<Deadline> link_by;   // set while a link is being made for it: when it does not wait any more
  std::optional<Deadline> patience;  // set once it is to stop: when its link is given up for it

  [[nodiscard]] bool ended() const { return done == nullptr; }
  void end(const Status& status) { std::exchange(done, nullptr)(status); }
};

}  // namespace ray_hixl::transport::hixl
