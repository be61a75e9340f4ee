#include "transport/hixl/driver/remote.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "transport/hixl/cann/cause.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::uint64_t kMostRegions = 4096;  // of a peer; there is no limit to one's own
constexpr int kMostAttempts = 3;
constexpr std::chrono::milliseconds kPatience{200};   // with requests of a peer that is gone
constexpr std::chrono::milliseconds kRetryPause{50};  // before connecting again, times the attempts
constexpr std::chrono::milliseconds kTurn{100};       // that a busy link has before others get theirs
constexpr std::int32_t kDisconnectMs = 1000;          // HIXL ignores it in some engines
constexpr std::chrono::milliseconds kOwnWords{250};   // past the time of a connect: HIXL's answer says more than that there is none

// May another connect succeed where this one did not, with the peer as it is?
bool is_worth_another_try(HixlCode code) { return code != kTimeout && code != kParamInvalid && code != kUnsupported; }

constexpr const char* kOutOfReach = "the peer is too busy, or out of reach (hccn_tool -ping)";
constexpr const char* kFewer =
    "memory, queue pairs or completion queues are used up. Lower hixl_max_links and idle_timeout_s, run fewer processes on it, give torch "
    "less";

// What to do about a connect that failed, to a peer that has registered memory so many times.
std::string advice(const Outcome& outcome, std::uint64_t registrations) {
  if (outcome.code == kParamInvalid && (registrations > kMostRegions || outcome.said.find("region") != std::string::npos)) {
    return ". HIXL takes " + std::to_string(kMostRegions) + " regions of a peer, and this one has registered " +
           std::to_string(registrations) + ": let it register fewer and larger ones, or raise its slab_bytes";
  }
  switch (cause_of(outcome)) {
    case Cause::kPort:
      return ". The port of the peer's engine on its device's NIC is taken: the peer starts another engine, on other ports, a few times; "
             "where it goes on, widen or move its hixl_ports";
    case Cause::kAbsent: return ". Nobody answers there: the peer's engine has ended just now, or a firewall keeps hixl_ports closed";
    case Cause::kResources: return std::string(". One of the two devices or its NIC is at its end: ") + kFewer;
    default: break;
  }
  const std::string equal = "both sides need the same HCCL_INTRA_ROCE_ENABLE, and devices that reach each other (hccn_tool -ping)";
  if (outcome.code != kFailed) return ". For a link " + equal;
  return std::string(". HIXL does not say why; mostly a device or its NIC is at its end: ") + kFewer + ". Else " + equal;
}

}  // namespace

Remote::Remote(RemoteHost& host, std::string name) : host_(host), name_(std::move(name)), text_(name_) {}

void Remote::add(std::shared_ptr<Move> move) {
  if (move->transfer->stopping()) return move->end(move->transfer->stop_reason());
  if (move->owner != life_) {
    if (!idle()) end_other_lives(move->owner);
    life_ = move->owner;
    known_epoch_ = 0;
  }
  known_epoch_ = std::max({known_epoch_, move->remote_epoch, move->described_epoch});
  channels_.insert(move->channel);
  if (waiting_.empty()) turn_ = host_.next_turn();
  waiting_.push_back(move);
  advance();
  if (wait_ != Wait::kNothing && !waiting_.empty() && waiting_.back() == move) tell_waiting(*move);
}

// The peer has been restarted on the same address: whatever was meant for its earlier life cannot be had any more.
void Remote::end_other_lives(const Incarnation& life) {
  const Status gone(Code::kPeerGone, "the engine at " + name_ + " was restarted: what its earlier life published is gone");
  const auto waiting = std::exchange(waiting_, {});
  for (const auto& move : waiting) {
    if (move->owner == life) {
      waiting_.push_back(move);
    } else {
      move->failure = gone;
      settle(move);
    }
  }
  for (const Request& request : requests_) {
    if (request.move->owner != life) request.move->failure = gone;
  }
  for (const auto& move : lost_) {
    if (move->owner != life) move->failure = gone;
  }
  break_link("the peer was restarted", Cause::kGivenUp, kPatience);
}

void Remote::advance() {
  due_.reset();
  switch (state_) {
    case State::kDown: return advance_down();
    case State::kUp: submit(); return close_if_unused();
    case State::kDraining:
      if (requests_.empty()) return disconnect();
      if (out_of_patience()) return give_up();
      return give_way("requests on an older link have to end first");
    case State::kGivenUp:
      if (requests_.empty() || host_.is_quiet()) return disconnect();
      return give_way("a request on an older link does not end");
    case State::kConnecting: return end_late();
    case State::kDisconnecting: return give_way("HIXL is taking an older link down");
  }
}

void Remote::advance_down() {
  if (waiting_.empty()) return;
  if (!requests_.empty() || !host_.takes_moves()) return give_way("HIXL's engine here is being replaced");
  if (not_before_ && !not_before_->passed()) {
    wake_at(*not_before_);
    return give_way("it failed, and is tried again");
  }
  if (host_.has_turn(*this)) return connect();
  wait_for(Wait::kTurn);
  give_way(host_.no_turn().message());
}

// Moves that another transport can have wait for a link, whatever that waits for, only as long as that has time left for them.
void Remote::give_way(const std::string& why) {
  for (const auto& move : std::exchange(waiting_, {})) {
    if (move->in_flight > 0 || !move->gives_way_at.passed()) {
      if (move->in_flight == 0) wake_at(move->gives_way_at);  // else what is in flight ends first
      waiting_.push_back(move);
      continue;
    }
    move->gave_way = true;
    move->failure = Status(Code::kConnectError, "HIXL has not linked to " + name_ + " within half of the transfer's time: " + why);
    settle(move);
  }
}

// Has the link, or a move that is to stop, had its time?
bool Remote::out_of_patience() {
  if (give_up_at_) {
    if (give_up_at_->passed()) return true;
    wake_at(*give_up_at_);
  }
  for (const Request& request : requests_) {
    if (!request.move->patience) continue;
    if (request.move->patience->passed()) return true;
    wake_at(*request.move->patience);
  }
  return false;
}

void Remote::wake_at(Deadline when) {
  if (!due_ || when.when() < due_->when()) due_ = when;
}

bool Remote::wants_link() const {
  return state_ == State::kDown && !waiting_.empty() && requests_.empty() && !(not_before_ && !not_before_->passed());
}

void Remote::yield() {
  host_.counters().links_yielded.fetch_add(1, std::memory_order_relaxed);
  state_ = State::kDraining;
  advance();
}

void Remote::close_if_unused() {
  if (!is_unused()) return;
  if (idle_at_.passed()) return yield();
  wake_at(idle_at_);
}

void Remote::connect() {
  state_ = State::kConnecting;
  wait_for(Wait::kNothing);
  broken_.clear();
  cause_ = Cause::kGivenUp;
  busy_until_.reset();
  give_up_at_.reset();
  late_ = false;
  // Both are read before the connect: it shows at least this much.
  local_epoch_ = host_.local_epoch();
  remote_epoch_ = known_epoch_;
  host_.counters().connects.fetch_add(1, std::memory_order_relaxed);
  const auto timeout = static_cast<std::int32_t>(host_.connect_timeout().count());
  host_.run(
      [&hixl = host_.hixl(), peer = text_, timeout] {
        Outcome outcome = hixl.connect(peer, timeout);
        if (outcome.code != kAlreadyConnected) return outcome;
        (void)hixl.disconnect(peer, kDisconnectMs);  // to an earlier life, most likely: it tells nothing of a link's health
        return hixl.connect(peer, timeout);
      },
      [self = shared_from_this()](const Outcome& outcome) { self->connected(outcome); });
  end_late();
}

// HIXL's call goes on, and gives each of its stages the whole time. What comes of it is for later moves where these only gave way.
void Remote::end_late() {
  for (const auto& move : std::exchange(waiting_, {})) {
    if (!move->link_by) move->link_by = Deadline::in(host_.connect_timeout() + kOwnWords);
    if (!move->link_by->passed()) {
      wake_at(*move->link_by);
      waiting_.push_back(move);
      continue;
    }
    late_ = true;
    move->failure = Status(Code::kConnectError, "HIXL has not linked to " + name_ + " within connect_timeout_s (" +
                                                    std::to_string(host_.connect_timeout().count()) + " ms): " + kOutOfReach);
    settle(move);
  }
  give_way(kOutOfReach);
}

void Remote::connected(const Outcome& outcome) {
  if (outcome.is_ok()) {
    state_ = State::kUp;
    turn_end_ = Deadline::in(kTurn);
    idle_at_ = Deadline::in(host_.idle_time());
    for (const auto& move : waiting_) move->link_by.reset();
    const bool unwanted = late_ && waiting_.empty();
    if (unwanted || !broken_.empty() || !recalls_.empty() || !host_.takes_moves()) return disconnect();
    return advance();
  }
  went_down();
  host_.counters().connects_failed.fetch_add(1, std::memory_order_relaxed);
  const auto waiting = std::exchange(waiting_, {});
  int attempts = 0;
  const bool is_full = outcome.code == kResourceExhausted && host_.make_room();
  for (const auto& move : waiting) {
    if (is_full && !move->transfer->stopping()) {
      move->link_by.reset();
      move->transfer->set_waiting(Status(Code::kConnectError, "HIXL takes no other link, to " + name_ + ": " + outcome.text()));
      waiting_.push_back(move);
      continue;
    }
    const bool is_late = move->link_by && move->link_by->passed();
    if (++move->attempts < kMostAttempts && is_worth_another_try(outcome.code) && !is_late && !move->transfer->stopping()) {
      attempts = std::max(attempts, move->attempts);
      waiting_.push_back(move);
      continue;
    }
    move->refused = outcome.code == kFailed;
    move->failure = Status(Code::kConnectError, "HIXL cannot connect to " + name_ + ": " + outcome.text() + advice(outcome, remote_epoch_));
    settle(move);
  }
  if (!waiting_.empty()) not_before_ = Deadline::in(kRetryPause * std::max(attempts, 1));
  advance();
}

// REQUIRES: the link is up; everything has ended, or the engine goes with it.
void Remote::disconnect() {
  dirty_ = !requests_.empty();
  state_ = State::kDisconnecting;
  advance();
  host_.run([&hixl = host_.hixl(), peer = text_] { return hixl.disconnect(peer, kDisconnectMs); },
            [self = shared_from_this()](const Outcome& outcome) { self->disconnected(outcome); });
}

void Remote::went_down() {
  state_ = State::kDown;
  for (const auto& then : std::exchange(recalls_, {})) then();
}

void Remote::disconnected(const Outcome& outcome) {
  const bool is_up = !outcome.is_ok() && outcome.code != kNotConnected && !host_.is_closing();
  if (is_up) return end_with_engine(outcome);
  went_down();
  if (!dirty_ || host_.is_closing()) let_go();
  advance();
}

// The link may still write.
void Remote::end_with_engine(const Outcome& outcome) {
  state_ = State::kDown;
  dirty_ = true;
  host_.counters().disconnects_failed.fetch_add(1, std::memory_order_relaxed);
  log(LogLevel::kWarning, "HIXL does not take its link to " + name_ + " down, so its engine is replaced: " + outcome.text());
  host_.taint();
  advance();
}

void Remote::engine_is_gone() {
  went_down();
  let_go();
  advance();
}

// Nothing arrives late from here on.
void Remote::let_go() {
  dirty_ = false;
  std::vector<std::shared_ptr<Move>> moves = std::exchange(lost_, {});
  for (Request& request : requests_) moves.push_back(std::move(request.move));
  requests_.clear();
  for (const auto& move : moves) {
    move->in_flight = 0;
    move->lost = false;
    std::erase(waiting_, move);
  }
  for (const auto& move : moves) {
    if (!move->ended() && std::ranges::find(waiting_, move) == waiting_.end()) retry_or_end(move);
  }
}

// A READ may be made any number of times.
void Remote::retry_or_end(const std::shared_ptr<Move>& move) {
  if (move->failure.is_ok() && cause_ == Cause::kFailure && ++move->attempts >= kMostAttempts) {
    move->failure = Status(Code::kPeerGone, "HIXL lost the link to " + name_ + " again and again: " + broken_);
  }
  move->submitted = 0;  // what was in flight is not there
  if (!move->failure.is_ok() || move->transfer->stopping()) return settle(move);
  host_.counters().retries.fetch_add(1, std::memory_order_relaxed);
  waiting_.push_front(move);
}

void Remote::break_link(const std::string& why, Cause cause, std::chrono::milliseconds patience) {
  if (disconnecting() || state_ == State::kGivenUp) return;
  note_broken(why, cause);
  if (state_ != State::kUp && state_ != State::kDraining) return;
  state_ = State::kDraining;
  const Deadline end = Deadline::in(patience);
  give_up_at_ = give_up_at_ ? give_up_at_->sooner(end) : end;
  if (host_.is_closing() && !requests_.empty()) return give_up();
  advance();
}

// Counted once for each link.
void Remote::note_broken(const std::string& why, Cause cause) {
  if (broken_.empty()) host_.counters().links_broken.fetch_add(1, std::memory_order_relaxed);
  broken_ = why;
  cause_ = cause;
}

void Remote::give_up() {
  if (broken_.empty()) note_broken("a request did not end in time", Cause::kGivenUp);
  state_ = State::kGivenUp;
  host_.taint();
  advance();
}

// Those that `concerns` is true of; what HIXL has of them ends first.
template <class Concerns>
void Remote::end_waiting_if(Concerns concerns, const Status& why) {
  for (const auto& move : std::exchange(waiting_, {})) {
    if (!concerns(*move)) {
      waiting_.push_back(move);
      continue;
    }
    if (move->failure.is_ok()) move->failure = why;
    settle(move);
  }
}

void Remote::recall(std::function<void()> then) {
  for (const auto& move : waiting_) move->recalled = true;
  end_waiting_if([](const Move&) { return true; }, Status(Code::kConnectError, "the engine at " + name_ + " takes no readers just now"));
  if (!linked()) return then();
  recalls_.push_back(std::move(then));
  if (state_ == State::kUp) state_ = State::kDraining;
  advance();
}

void Remote::retire(bool now) {
  if (state_ == State::kUp) state_ = State::kDraining;
  if (now && state_ == State::kDraining && !requests_.empty()) give_up();
}

void Remote::end_waiting(const Status& why) {
  end_waiting_if([](const Move& move) { return move.in_flight == 0; }, why);
}

void Remote::heed_stops() {
  for (const auto& move : std::exchange(waiting_, {})) {
    if (move->transfer->stopping() && move->in_flight == 0) {
      settle(move);
    } else {
      waiting_.push_back(move);
    }
  }
  for (const Request& request : requests_) {
    if (!request.move->patience && request.move->transfer->stopping()) request.move->patience = Deadline::in(host_.stall_timeout());
  }
  advance();
}

void Remote::abandon(const void* channel, const Status& why) {
  if (channel == nullptr) {
    channels_.clear();
  } else if (channels_.erase(channel) == 0) {
    return;
  }
  const auto concerned = [&](const Move& move) { return channel == nullptr || move.channel == channel; };
  bool has_requests = false;
  for (const Request& request : requests_) {
    if (!concerned(*request.move)) continue;
    has_requests = true;
    if (request.move->failure.is_ok()) request.move->failure = why;
  }
  for (const auto& move : lost_) {
    if (concerned(*move) && move->failure.is_ok()) move->failure = why;
  }
  end_waiting_if(concerned, why);
  if (linked() && (has_requests || channels_.empty())) break_link(why.message(), Cause::kGivenUp, kPatience);
}

}  // namespace ray_hixl::transport::hixl
