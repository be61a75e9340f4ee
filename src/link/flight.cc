#include "link/flight.h"

#include <algorithm>
#include <utility>

namespace ray_hixl::link {
namespace {

std::size_t count(const Shares& shares) {
  return static_cast<std::size_t>(std::ranges::count_if(shares, [](const auto& share) { return share != nullptr; }));
}

}  // namespace

void Flight::start(std::shared_ptr<FlightHost> host, std::shared_ptr<const transport::Plan> plan,
                   std::shared_ptr<transport::TransferState> state) {
  const std::shared_ptr<Flight> flight(new Flight(std::move(host), std::move(plan), std::move(state)));
  flight->state_->set_stop_hook([flight] { flight->on_stop(); });
  flight->begin();
  if (!flight->state_->done()) flight->set_timer(flight->state_->deadline(), &Flight::past_deadline);
}

Flight::Flight(std::shared_ptr<FlightHost> host, std::shared_ptr<const transport::Plan> plan,
               std::shared_ptr<transport::TransferState> state)
    : host_(std::move(host)), plan_(std::move(plan)), state_(std::move(state)) {
  state_->reach(transport::TransferState::Milestone::kLinked);
}

void Flight::begin() {
  if (const Status good = check_before(); !good.is_ok()) return end(good);
  if (plan_->pieces.empty()) {
    unread_ = unread_sources();
    return moved(Status::ok());
  }
  if (const auto known = known_of(*plan_)) {
    if (known->paths == host_->paths().id()) {
      resolutions_ = known->resolutions;
      known_ = known;
      return dispatch();
    }
    if (host_->paths().needs_addresses()) resolutions_ = known->resolutions;
  }
  const auto is_pinned = [](const transport::DevicePlace& place) { return place.hixl >= 0; };
  if (std::ranges::any_of(plan_->places, is_pinned)) pins_ = choose_pins();
  if (!resolutions_ && reads_host_memory(*plan_) && host_->paths().needs_addresses()) return resolve();
  dispatch();
}

void Flight::resolve() {
  {
    const MutexLock lock(mutex_);
    coming_ = std::make_shared<Resolutions>(plan_->sources.size());
    unresolved_ = plan_->sources.size();
  }
  for (std::size_t source = 0; source < plan_->sources.size(); ++source) {
    host_->resolver().resolve(plan_->sources[source], weak_from_this(),
                              [weak = weak_from_this(), source](Result<std::shared_ptr<const Resolution>> answer) {
                                if (const auto flight = weak.lock()) flight->resolved(source, std::move(answer));
                              });
  }
}

void Flight::resolved(std::size_t source, Result<std::shared_ptr<const Resolution>> resolution) {
  if (!resolution.is_ok()) return end(verdict(resolution.status()));
  {
    const MutexLock lock(mutex_);
    (*coming_)[source] = *std::move(resolution);
    if (--unresolved_ > 0 || phase_ != Phase::kResolving) return;
    resolutions_ = std::move(coming_);
  }
  plan_->kept.set(std::make_shared<const Known>(Known{resolutions_, 0, {}}));
  // The round trip took its time.
  if (const Status good = check_before(); !good.is_ok()) return end(good);
  dispatch();
}

void Flight::dispatch() {
  if (plan_->pieces.size() <= transport::kFewPieces || !host_->on_loop()) return split_and_submit();
  const Status taken = host_->run([self = shared_from_this()] { self->split_and_submit(); });
  if (!taken.is_ok()) end(verdict(taken));
}

void Flight::split_and_submit() {
  if (known_) return move(known_->shares);
  // Asked for pins once: others find out meanwhile what HIXL does not link.
  Result<Shares> shares = split(*host_, *plan_, resolutions_.get(), plan_->pieces, {pins_, nullptr});
  if (!shares.is_ok()) {
    const Status alive = host_->check_alive();  // no way may lead to an owner because it died while the link came up
    return end(alive.is_ok() ? shares.status() : alive);
  }
  // Of host memory the choice never changes.
  if (!plan_->once && plan_->places.empty()) {
    plan_->kept.set(std::make_shared<const Known>(Known{resolutions_, host_->paths().id(), *shares}));
  }
  move(*shares);
}

void Flight::move(const Shares& shares) {
  unread_ = unread_sources();
  {
    const MutexLock lock(mutex_);
    if (phase_ != Phase::kResolving) return;  // stopped meanwhile
    phase_ = Phase::kMoving;
    moving_ = count(shares);
  }
  state_->reach(transport::TransferState::Milestone::kMoving);
  submit(shares);
}

void Flight::submit(const Shares& shares) {
  for (std::size_t i = 0; i < shares.size(); ++i) {
    if (shares[i]) submit(i, shares[i]);
  }
  // The stop may have come when some channels did not have their jobs yet.
  if (state_->stopping()) tell_channels();
}

void Flight::submit(std::size_t candidate, std::shared_ptr<const transport::Share> share) {
  auto job = std::make_shared<transport::Job>();
  job->transfer = state_;
  job->plan = plan_;
  job->share = std::move(share);
  job->done = [self = shared_from_this(), candidate, at = job.get()](const Status& status) {
    if (!self->hand_over(candidate, *at, status)) self->job_done(status);
  };
  host_->paths().candidates()[candidate].channel->submit(std::move(job));
}

// Nothing writes for `job` any more.
bool Flight::hand_over(std::size_t from, transport::Job& job, const Status& status) {
  const bool cannot = status.code() == Code::kNotAvailable || status.code() == Code::kConnectError || job.unreadable != 0;
  if (!cannot || !job.share->has_another_way || state_->stopping()) return false;
  if (job.unreadable != 0) note_unreadable(job);
  const auto share = std::move(job.share);
  if (share->pieces.size() <= transport::kFewPieces) {
    begin_anew(from, *share, status);
    return true;
  }
  return host_->run([self = shared_from_this(), from, share, status] { self->begin_anew(from, *share, status); }).is_ok();
}

// So that the next flights do not try it anew.
void Flight::note_unreadable(const transport::Job& job) const {
  const auto holds_it = [at = job.unreadable.load()](const transport::Piece& piece) {
    return at >= piece.address && at - piece.address < piece.length;
  };
  const auto piece = std::ranges::find_if(job.pieces(), holds_it);
  if (piece == job.pieces().end()) return;
  (*resolutions_)[piece->source]->is_owners_only = true;
  plan_->kept.set(std::make_shared<const Known>(Known{resolutions_, 0, {}}));
}

// In place of the job that failed, which still counts as moving.
void Flight::begin_anew(std::size_t from, const transport::Share& share, const Status& failure) {
  const Result<Shares> shares = split(*host_, *plan_, resolutions_.get(), share.pieces, {nullptr, &host_->paths().candidates()[from]});
  if (!shares.is_ok()) return job_done(failure);
  {
    const MutexLock lock(mutex_);
    moving_ += count(*shares) - 1;
  }
  submit(*shares);
}

// Host memory has other ways mostly, which are better than to find out again and again what was found out a moment ago.
const Candidate* Flight::choose_pins() const {
  const Candidate* const pins = host_->choose(transport::RemoteMemory::kPinned);
  const bool turned_out = pins != nullptr && !pins->channel->reads_now(transport::RemoteMemory::kPinned).is_ok();
  return turned_out && host_->choose(transport::RemoteMemory::kOrdinary) != nullptr ? nullptr : pins;
}

// Where generations are not mapped, a channel checks the sources of the pieces that it reads, and nobody those of which nothing is read:
// an empty object, or an op without bytes.
std::vector<Handle> Flight::unread_sources() const {
  if (host_->shows_generations() || (plan_->sources.size() == 1 && !plan_->pieces.empty())) return {};
  std::vector<bool> read(plan_->sources.size());
  for (const transport::Piece& piece : plan_->pieces) read[piece.source] = true;
  std::vector<Handle> unread;
  for (std::size_t source = 0; source < read.size(); ++source) {
    if (!read[source]) unread.push_back(plan_->sources[source]);
  }
  return unread;
}

void Flight::job_done(const Status& status) {
  bool last = false;
  bool was_left_behind = false;
  {
    const MutexLock lock(mutex_);
    if (error_.is_ok() && !status.is_ok()) error_ = status;
    last = --moving_ == 0;
    was_left_behind = phase_ == Phase::kEnded;
  }
  if (!last) {
    // Nobody wants the rest of the bytes.
    if (!status.is_ok()) state_->request_stop(verdict(status));
  } else if (was_left_behind) {
    plan_->let_go();
    host_->counters().quarantined_bytes.fetch_sub(plan_->bytes, std::memory_order_relaxed);
  } else {
    Status error;
    {
      const MutexLock lock(mutex_);
      error = error_;
    }
    moved(error);
  }
}

// Nothing moves any more.
void Flight::moved(const Status& status) {
  state_->reach(transport::TransferState::Milestone::kMoved);
  const Status result = verdict(status);
  if (!result.is_ok() || unread_.empty()) return end(result);
  confirm();
}

void Flight::confirm() {
  {
    const MutexLock lock(mutex_);
    if (phase_ == Phase::kEnded) return;
    phase_ = Phase::kConfirming;
  }
  host_->ask_live(unread_, [weak = weak_from_this()](const Status& live) {
    if (const auto flight = weak.lock()) flight->end(flight->verdict(live));
  });
  // A stop that came while bytes moved has used up the hook, which nothing else keeps the flight by.
  if (state_->stopping()) end(why_stopped());
}

// What can be seen without asking is seen before anything moves: a READ of a region that was closed must not bring what lies there now. The
// process itself is only looked at afterwards, since that costs a system call; the loop hears of its end, too.
Status Flight::check_before() const {
  RAY_HIXL_RETURN_IF_ERROR(host_->state());
  return check_sources();
}

Status Flight::check_sources() const {
  if (!host_->shows_generations()) return Status::ok();
  for (std::size_t i = 0; i < plan_->sources.size(); ++i) {
    if (host_->is_live(plan_->sources[i])) continue;
    host_->resolver().forget(plan_->sources[i]);
    RAY_HIXL_RETURN_IF_ERROR(host_->check_alive());  // a peer that ended takes all of its memory with it
    const std::string what = "the " + host_->peer_name() + " closed or freed the memory before it was read to the end";
    if (plan_->first_op.empty()) return Status(Code::kInvalidRegion, what);
    return Status(Code::kInvalidRegion, "op " + std::to_string(plan_->first_op[i]) + ": " + what +
                                            ": its Region was closed, or its handle dropped: keep the Region while others read");
  }
  return Status::ok();
}

Status Flight::timed_out() const {
  const Status waiting = state_->waiting();
  if (!waiting.is_ok()) return waiting.with_context("the deadline passed before anything could be read from the " + host_->peer_name());
  return Status(Code::kTransferTimeout, "the deadline passed while reading from the " + host_->peer_name() +
                                            "; it may be stopped or overloaded. Give the transfer more time if it is only slow");
}

// A mover that sees the deadline pass knows nothing of the peer.
Status Flight::why_stopped() const {
  Status reason = state_->stop_reason();
  return reason.code() == Code::kTransferTimeout ? timed_out() : reason;
}

// What the transfer ends with, when `moved` is what the transports (or the owner's answer) say.
Status Flight::verdict(const Status& moved) const {
  if (!moved.is_ok() && state_->stopping()) return why_stopped();
  RAY_HIXL_RETURN_IF_ERROR(host_->check_alive());
  RAY_HIXL_RETURN_IF_ERROR(check_sources());
  return moved.is_ok() ? moved : moved.with_context("reading from the " + host_->peer_name());
}

void Flight::on_stop() {
  bool moving = false;
  {
    const MutexLock lock(mutex_);
    if (phase_ == Phase::kEnded) return;
    moving = phase_ == Phase::kMoving;
    if (!moving) phase_ = Phase::kEnded;
  }
  if (!moving) {
    plan_->let_go();
    return finish(why_stopped());
  }
  tell_channels();
  if (plan_->callers_memory) {
    set_timer(Deadline::in(kStopTime), &Flight::leave_behind);
  } else {
    leave_behind();
  }
}

void Flight::tell_channels() const {
  for (const Candidate& candidate : host_->paths().candidates()) {
    if (candidate.channel) candidate.channel->heed_stops();
  }
}

// Ends the transfer though jobs may still write. The last of them lets go of the memory.
void Flight::leave_behind() {
  {
    const MutexLock lock(mutex_);
    if (phase_ != Phase::kMoving || moving_ == 0) return;  // the last job is about to end it
    phase_ = Phase::kEnded;
    host_->counters().quarantined_bytes.fetch_add(plan_->bytes, std::memory_order_relaxed);
  }
  const Status reason = why_stopped();
  if (!plan_->callers_memory) return finish(reason);
  finish(Status(reason.code(), reason.message() + ". A transport has not stopped within " + std::to_string(kStopTime.count()) +
                                   " s: the target memory may still be written, and is kept until it has"));
}

// REQUIRES: no job moves.
void Flight::end(const Status& result) {
  {
    const MutexLock lock(mutex_);
    if (phase_ == Phase::kEnded) return;
    phase_ = Phase::kEnded;
  }
  plan_->let_go();
  finish(result);
}

void Flight::finish(const Status& result) {
  state_->finish(result);
  if (!armed_) return;
  host_->post([self = shared_from_this()] {
    if (self->timer_ != 0) self->host_->cancel(std::exchange(self->timer_, 0));
  });
}

// In place of the one before; but that of a stop that came meanwhile is not replaced by the deadline's. That the deadline has passed is no
// such stop: nobody else would ask for one.
void Flight::set_timer(Deadline deadline, void (Flight::*due)()) {
  if (deadline.when() == Clock::time_point::max()) return;
  armed_ = true;
  host_->post([self = shared_from_this(), deadline, due] {
    if (self->state_->done() || (due == &Flight::past_deadline && self->timer_ != 0)) return;
    if (self->timer_ != 0) self->host_->cancel(self->timer_);
    self->timer_ = self->host_->at(deadline, [weak = self->weak_from_this(), due] {
      const auto flight = weak.lock();
      if (!flight) return;
      flight->timer_ = 0;
      ((*flight).*due)();
    });
  });
}

void Flight::past_deadline() { state_->request_stop(timed_out()); }

}  // namespace ray_hixl::link
