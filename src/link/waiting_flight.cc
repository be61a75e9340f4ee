#include "link/waiting_flight.h"

#include <utility>

namespace ray_hixl::link {

void WaitingFlight::start(Links& links, const control::EngineDescriptor& owner, Deadline deadline,
                          std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> transfer) {
  const auto flight = std::make_shared<WaitingFlight>(std::move(plan), transfer);
  transfer->set_stop_hook([weak = std::weak_ptr<WaitingFlight>(flight)] {
    if (const auto waiting = weak.lock()) waiting->stop();
  });
  links.open(owner, deadline, [&links, owner, deadline, flight](const Result<std::shared_ptr<Link>>& link) {
    auto taken = flight->take();
    if (!taken) return;
    if (!link.is_ok()) {
      taken = nullptr;  // and with it the memory
      flight->transfer_->finish(link.status());
    } else if (!(*link)->submit(taken, flight->transfer_)) {  // it was retired just now
      start(links, owner, deadline, std::move(taken), flight->transfer_);
    }
  });
}

WaitingFlight::~WaitingFlight() {
  if (take()) transfer_->finish(Status(Code::kClosed, "the engine was closed before a link to the owner was up"));
}

// The link has a stop hook of its own from submit() on, and runs it for a stop that came before.
void WaitingFlight::stop() {
  if (take()) transfer_->finish(transfer_->stop_reason());
}

}  // namespace ray_hixl::link
