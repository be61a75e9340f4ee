// Transfer: a batch or fetch under way. It ends exactly once: done, failed, timed out, cancelled or closed.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "ray_hixl/stats.h"
#include "ray_hixl/status.h"

namespace ray_hixl {

namespace transport {
class TransferState;
}

// When a transfer came to what, by CLOCK_MONOTONIC; each is not before the one above it. What it did not come to, or passed by, has the
// time of the one before; of what moved nothing over a link, `moved` is the end.
struct TransferTimes {
  std::chrono::steady_clock::time_point begun;   // asked for, with its memory
  std::chrono::steady_clock::time_point linked;  // there is a link to the peer
  std::chrono::steady_clock::time_point moving;  // it is known where the bytes lie, and transports have their jobs
  std::chrono::steady_clock::time_point moved;   // every byte is there
  std::chrono::steady_clock::time_point ended;   // and was still good, or it failed
};

// A handle to one transfer. Copies share it. Every method may be called from any thread, any number of times.
// The deadline belongs to the transfer, not to wait(): dropping the handle neither cancels nor extends it.
class Transfer {
 public:
  explicit Transfer(std::shared_ptr<transport::TransferState> state) : state_(std::move(state)) {}

  // Blocks until the transfer ended or `timeout` passed; true if it ended. nullopt waits for as long as it takes (bounded by the
  // transfer's own deadline). Once true, no transport writes to the local memory any more, unless result() says so.
  [[nodiscard]] bool wait(std::optional<std::chrono::nanoseconds> timeout = std::nullopt) const;
  [[nodiscard]] bool done() const;
  // The outcome. REQUIRES: done().
  [[nodiscard]] Status result() const;
  // Asks the transfer to end early with Code::kCancelled. A request: a transfer about to end may still end otherwise. It ends at once, or,
  // where bytes are on their way into the caller's own memory, when nothing writes there any more: at most a second later, and then
  // result() says that something still may.
  void cancel() const;
  // Bytes moved so far by each transport.
  [[nodiscard]] std::vector<TransportBytes> bytes_by_transport() const;
  // REQUIRES: done().
  [[nodiscard]] TransferTimes times() const;

  [[nodiscard]] const std::shared_ptr<transport::TransferState>& state() const { return state_; }

 private:
  std::shared_ptr<transport::TransferState> state_;
};

}  // namespace ray_hixl
