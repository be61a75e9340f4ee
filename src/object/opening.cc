#include "object/opening.h"

namespace ray_hixl {

void Opening::start(link::Links& links, const control::EngineDescriptor& owner, Deadline deadline,
                    std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> transfer) {
  const auto opening = std::make_shared<Opening>(std::move(plan), transfer);
  transfer->set_stop_hook([weak = std::weak_ptr<Opening>(opening)] {
    if (const auto waiting = weak.lock()) waiting->stop();
  });
  links.open(owner, deadline, [opening](Result<std::shared_ptr<link::Link>> link) { opening->opened(std::move(link)); });
}

Opening::~Opening() {
  if (take()) transfer_->finish(Status(Code::kClosed, "the engine was closed before a link to the owner was up"));
}

void Opening::opened(Result<std::shared_ptr<link::Link>> link) {
  auto plan = take();
  if (!plan) return;
  if (link.is_ok()) {
    (*link)->submit(std::move(plan), transfer_);
  } else {
    transfer_->finish(link.status());
  }
}

// The link has a stop hook of its own from submit() on, and runs it for a stop that came before.
void Opening::stop() {
  if (take()) transfer_->finish(transfer_->stop_reason());
}

}  // namespace ray_hixl
