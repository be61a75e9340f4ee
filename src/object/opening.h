// Opening: a fetch that waits for its link. It is taken once, by whatever comes first: the link (then it is submitted), the failure to open
// one, a request to stop, or the engine's end.
//
// Owned by the callback that waits for the link. If that is dropped without a call, the fetch ends as closed: a transfer always ends.
#pragma once

#include <atomic>
#include <memory>

#include "control/descriptor.h"
#include "link/links.h"
#include "transport/job.h"
#include "transport/transfer_state.h"

namespace ray_hixl {

class Opening {
 public:
  // Opens the link to `owner` until `deadline` and reads what the plan says.
  static void start(link::Links& links, const control::EngineDescriptor& owner, Deadline deadline,
                    std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> transfer);
  Opening(std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> transfer)
      : plan_(std::move(plan)), transfer_(std::move(transfer)) {}
  ~Opening();
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;

 private:
  void opened(Result<std::shared_ptr<link::Link>> link);
  void stop();
  // The plan, once; nobody can write to its memory yet, so whoever ends the fetch lets it go at once.
  [[nodiscard]] std::shared_ptr<const transport::Plan> take() { return taken_.exchange(true) ? nullptr : std::move(plan_); }

  std::shared_ptr<const transport::Plan> plan_;  // whoever took it moves it out
  const std::shared_ptr<transport::TransferState> transfer_;
  std::atomic<bool> taken_{false};
};

}  // namespace ray_hixl
