#include "ray_hixl/transfer.h"

#include <algorithm>

#include "transport/transfer_state.h"

namespace ray_hixl {

// A transfer ends within seconds of its deadline; should a defect keep it from that, waiting ends all the same.
bool Transfer::wait(std::optional<std::chrono::nanoseconds> timeout) const {
  if (timeout || state_->done()) return state_->wait(timeout);
  constexpr std::chrono::nanoseconds kGrace = std::chrono::seconds(10);
  return state_->wait(std::min(state_->deadline().remaining(), std::chrono::nanoseconds::max() - kGrace) + kGrace);
}
bool Transfer::done() const { return state_->done(); }
Status Transfer::result() const { return state_->result(); }
void Transfer::cancel() const { state_->request_stop(Status(Code::kCancelled, "the transfer was cancelled by its caller")); }
std::vector<TransportBytes> Transfer::bytes_by_transport() const { return state_->bytes_by_transport(); }
TransferTimes Transfer::times() const { return state_->times(); }

}  // namespace ray_hixl
