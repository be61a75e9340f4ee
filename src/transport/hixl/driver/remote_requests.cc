// What a link that is up does: hands moves to HIXL, in parts, and takes note of their ends.
#include <algorithm>
#include <utility>

#include "transport/hixl/driver/remote.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::size_t kMostOps = 4096;                 // of one request
constexpr std::chrono::milliseconds kBackPressure{1};  // when HIXL is short of something

}  // namespace

void Remote::wait_for(Wait what) {
  if (what == std::exchange(wait_, what)) return;
  for (const auto& move : waiting_) tell_waiting(*move);
}

void Remote::tell_waiting(Move& move) const {
  switch (wait_) {
    case Wait::kNothing: return move.transfer->set_waiting(Status::ok());
    case Wait::kTurn: return move.transfer->set_waiting(host_.no_turn());
    case Wait::kRoom: return move.transfer->set_waiting(host_.no_room());
  }
}

void Remote::submit() {
  while (!waiting_.empty() && state_ == State::kUp) {
    const std::shared_ptr<Move> move = waiting_.front();
    if (!move->failure.is_ok() || move->transfer->stopping()) {
      waiting_.pop_front();
      settle(move);
      continue;
    }
    if (move->remote_epoch > remote_epoch_ || move->local_epoch > local_epoch_) {
      host_.counters().refreshes.fetch_add(1, std::memory_order_relaxed);
      state_ = State::kDraining;
      break;
    }
    if (busy_until_ && !busy_until_->passed()) {
      wake_at(*busy_until_);
      break;
    }
    if (!host_.takes_moves()) break;
    if (!host_.has_room(requests_.size())) {
      wait_for(Wait::kRoom);
      break;
    }
    if (!submit_chunk(move)) break;
    if (move->submitted == move->ops.size()) waiting_.pop_front();
  }
  if (waiting_.empty()) wait_ = Wait::kNothing;
  if (state_ == State::kDraining) return advance();
  if (state_ == State::kUp && out_of_patience()) give_up();
}

// True if HIXL took it. Otherwise the link's state, the move's failure or due() say how it goes on.
bool Remote::submit_chunk(const std::shared_ptr<Move>& move) {
  const std::size_t count = std::min(kMostOps, move->ops.size() - move->submitted);
  const auto first = move->ops.begin() + static_cast<std::ptrdiff_t>(move->submitted);
  const bool is_all = count == move->ops.size();
  Request request{host_.next_request(), nullptr, move};
  const Outcome outcome = host_.hixl().read_async(
      text_, is_all ? move->ops : std::vector<OpDesc>(first, first + static_cast<std::ptrdiff_t>(count)), request.id, request.handle);
  switch (judge(outcome.code)) {
    case Verdict::kFine:
      host_.counters().requests.fetch_add(1, std::memory_order_relaxed);
      move->submitted += count;
      ++move->in_flight;
      requests_.push_back(std::move(request));
      turn_ = host_.next_turn();
      move->transfer->set_waiting(Status::ok());
      return true;
    case Verdict::kNoMemory:
      move->transfer->set_waiting(Status(Code::kOutOfMemory, "HIXL has no memory for a request to " + name_ + ": " + outcome.text() +
                                                                 ". Each takes 2 MiB of the NPU's; give torch less"));
      return hold_back();
    case Verdict::kBusy: wait_for(Wait::kRoom); return hold_back();
    case Verdict::kStale:
      if (!move->refreshed) {
        move->refreshed = true;
        host_.counters().refreshes.fetch_add(1, std::memory_order_relaxed);
        state_ = State::kDraining;
        return false;
      }
      move->failure =
          Status(Code::kInternal, "HIXL does not know the memory of this transfer with " + name_ +
                                      ", although both sides registered it and connected anew; please report it: " + outcome.text());
      waiting_.pop_front();
      settle(move);
      return false;
    case Verdict::kLinkBroken:  // a part may be under way, whose end nobody can ask for
      ++move->in_flight;
      requests_.push_back(std::move(request));
      note_broken("TransferAsync: " + outcome.text(), Cause::kFailure);
      give_up();
      return false;
  }
  return false;
}

bool Remote::hold_back() {
  host_.counters().exhausted.fetch_add(1, std::memory_order_relaxed);
  busy_until_ = Deadline::in(kBackPressure);
  wake_at(*busy_until_);
  return false;
}

void Remote::finished(std::uint64_t id, const std::string& failure) {
  const auto found = std::ranges::find(requests_, id, &Request::id);
  if (found == requests_.end()) return;
  busy_until_.reset();
  idle_at_ = Deadline::in(host_.idle_time());
  const std::shared_ptr<Move> move = std::move(found->move);
  requests_.erase(found);
  --move->in_flight;
  if (failure.empty()) return settle(move);
  std::erase(waiting_, move);
  if (!std::exchange(move->lost, true)) lost_.push_back(move);
  break_link(failure, Cause::kFailure, host_.stall_timeout());
}

// Ends the move if nothing of it is in flight and nothing left to do.
void Remote::settle(const std::shared_ptr<Move>& move) {
  if (move->ended() || move->in_flight > 0 || move->lost) return;
  if (!move->failure.is_ok()) return move->end(move->failure);
  if (move->submitted == move->ops.size()) return move->end(Status::ok());
  if (move->transfer->stopping()) return move->end(move->transfer->stop_reason());
}

}  // namespace ray_hixl::transport::hixl
