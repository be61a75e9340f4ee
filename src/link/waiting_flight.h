// WaitingFlight: a transfer that waits for its link. It is taken once, by whatever comes first: the link (then it is submitted), the
// failure to open one, a request to stop, or the engine's end.
//
// Owned by the callback that waits for the link. If that is dropped without a call, the transfer ends as closed: a transfer always ends.
#pragma once

#include <atomic>
#include <memory>

#include "control/descriptor.h"
#include "link/links.h"
#include "transport/job.h"
#include "transport/transfer_state.h"

namespace ray_hixl::link {

class WaitingFlight {
 public:
  // Opens the link to `owner` until `deadline` and reads what the plan says. `links` outlives the loop's callbacks.
  static void start(Links& links, const control::EngineDescriptor& owner, Deadline deadline, std::shared_ptr<const transport::Plan> plan,
                    std::shared_ptr<transport::TransferState> transfer);
  WaitingFlight(std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> transfer)
      : plan_(std::move(plan)), transfer_(std::move(transfer)) {}
  ~WaitingFlight();
  WaitingFlight(const WaitingFlight&) = delete;
  WaitingFlight& operator=(const WaitingFlight&) = delete;

 private:
  void stop();
  // The plan, once; nobody can write to its memory yet, so whoever ends the transfer lets it go at once.
  [[nodiscard]] std::shared_ptr<const transport::Plan> take() { return taken_.exchange(true) ? nullptr : std::move(plan_); }

  std::shared_ptr<const transport::Plan> plan_;  // whoever took it moves it out
  const std::shared_ptr<transport::TransferState> transfer_;
  std::atomic<bool> taken_{false};
};

}  // namespace ray_hixl::link
