#include "link/flight.h"

#include <algorithm>
#include <utility>

namespace ray_hixl::link {
namespace {

std::size_t count(const std::vector<std::shared_ptr<transport::Job>>& jobs) {
  return static_cast<std::size_t>(std::ranges::count_if(jobs, [](const auto& job) { return job != nullptr; }));
}

// May a channel find out only when it moves such memory that it cannot?
bool may_turn_out(const Candidate& channel, transport::RemoteMemory memory) {
  if (memory == transport::RemoteMemory::kOrdinary) return channel.reads_by_address;
  return memory == transport::RemoteMemory::kDevice || memory == transport::RemoteMemory::kPinned;
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
  const auto is_pinned = [](const transport::DevicePlace& place) { return place.hixl >= 0; };
  if (std::ranges::any_of(plan_->places, is_pinned)) pins_ = choose_pins();
  // Pinned memory, too, though HIXL knows its own addresses: it may have to go the other ways.
  const bool host_memory = std::ranges::any_of(plan_->pieces, [this](const transport::Piece& piece) { return is_of_hosts(piece); });
  if (host_memory && host_->paths().needs_addresses()) return resolve();
  dispatch();
}

void Flight::resolve() {
  resolutions_ = std::static_pointer_cast<const Resolutions>(plan_->kept.get());
  if (resolutions_) return dispatch();
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
  plan_->kept.set(resolutions_);
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
  Jobs jobs;
  jobs.pins = pins_;  // asked once: others find out meanwhile what HIXL does not link
  if (const Status status = split(plan_->pieces, jobs); !status.is_ok()) {
    const Status alive = host_->check_alive();  // no way may lead to an owner because it died while the link came up
    return end(alive.is_ok() ? status : alive);
  }
  unread_ = unread_sources();
  {
    const MutexLock lock(mutex_);
    if (phase_ != Phase::kResolving) return;  // stopped meanwhile
    phase_ = Phase::kMoving;
    moving_ = count(jobs.of);
  }
  state_->reach(transport::TransferState::Milestone::kMoving);
  submit(jobs);
}

void Flight::submit(Jobs& jobs) {
  for (std::size_t i = 0; i < jobs.of.size(); ++i) {
    if (jobs.of[i]) submit(i, std::move(jobs.of[i]));
  }
  // The stop may have come when some channels did not have their jobs yet.
  if (state_->stopping()) tell_channels();
}

void Flight::submit(std::size_t candidate, std::shared_ptr<transport::Job> job) {
  job->done = [self = shared_from_this(), candidate, at = job.get()](const Status& status) {
    if (!self->hand_over(candidate, *at, status)) self->job_done(status);
  };
  host_->paths().candidates()[candidate].channel->submit(std::move(job));
}

// Nothing writes for `job` any more.
bool Flight::hand_over(std::size_t from, transport::Job& job, const Status& status) {
  const bool cannot = status.code() == Code::kNotAvailable || status.code() == Code::kConnectError || job.unreadable != 0;
  if (!cannot || !job.has_another_way || state_->stopping()) return false;
  if (job.unreadable != 0) note_unreadable(job);
  const auto pieces = std::make_shared<const std::vector<transport::Piece>>(std::move(job.pieces));
  if (pieces->size() <= transport::kFewPieces) {
    begin_anew(from, *pieces, status);
    return true;
  }
  return host_->run([self = shared_from_this(), from, pieces, status] { self->begin_anew(from, *pieces, status); }).is_ok();
}

// So that the next flights do not try it anew.
void Flight::note_unreadable(const transport::Job& job) const {
  const auto holds_it = [at = job.unreadable.load()](const transport::Piece& piece) {
    return at >= piece.address && at - piece.address < piece.length;
  };
  const auto piece = std::ranges::find_if(job.pieces, holds_it);
  if (piece != job.pieces.end()) (*resolutions_)[piece->source]->is_owners_only = true;
}

// In place of the job that failed, which still counts as moving.
void Flight::begin_anew(std::size_t from, const std::vector<transport::Piece>& pieces, const Status& failure) {
  Jobs jobs;
  jobs.after = &host_->paths().candidates()[from];
  if (!split(pieces, jobs).is_ok()) return job_done(failure);
  {
    const MutexLock lock(mutex_);
    moving_ += count(jobs.of) - 1;
  }
  submit(jobs);
}

// On both sides, pinned or not.
bool Flight::is_of_hosts(const transport::Piece& piece) const {
  return piece.place < 0 || plan_->places[static_cast<std::size_t>(piece.place)].is_host();
}

transport::RemoteMemory Flight::memory_of(const transport::DevicePlace& place, bool pins) {
  if (pins && place.hixl >= 0) return transport::RemoteMemory::kPinned;
  if (place.is_host()) return transport::RemoteMemory::kOrdinary;
  return place.across ? transport::RemoteMemory::kAcross : transport::RemoteMemory::kDevice;
}

Status Flight::split(const std::vector<transport::Piece>& pieces, Jobs& jobs) const {
  jobs.of.resize(host_->paths().candidates().size());
  jobs.chosen[static_cast<std::size_t>(transport::RemoteMemory::kPinned)] = jobs.pins;
  const bool pins = jobs.pins != nullptr;
  for (const transport::Piece& piece : pieces) {
    const auto memory =
        piece.place < 0 ? transport::RemoteMemory::kOrdinary : memory_of(plan_->places[static_cast<std::size_t>(piece.place)], pins);
    const bool by_range = resolutions_ && transport::is_host(memory);
    RAY_HIXL_RETURN_IF_ERROR(by_range ? split_piece(piece, jobs) : add(piece, memory, jobs));
  }
  return Status::ok();
}

// One piece per range that it touches.
Status Flight::split_piece(const transport::Piece& piece, Jobs& jobs) const {
  const Resolution& resolution = *(*resolutions_)[piece.source];
  if (piece.offset > resolution.length || piece.length > resolution.length - piece.offset) {
    return Status(Code::kInvalidRegion, std::to_string(piece.length) + " bytes at offset " + std::to_string(piece.offset) +
                                            " lie outside of the " + std::to_string(resolution.length) + " bytes that the " +
                                            host_->peer_name() + " registered");
  }
  transport::Piece rest = piece;
  for (std::size_t i = memory::range_at(resolution.starts, piece.offset); rest.length > 0; ++i) {
    if (resolution.ranges[i].address == 0) {
      return Status(Code::kInvalidRegion,
                    "the bytes lie in device memory of the " + host_->peer_name() + ", and cannot be read into host memory");
    }
    const std::uint64_t skipped = rest.offset - resolution.starts[i];
    transport::Piece part = rest;
    part.address = resolution.ranges[i].address + skipped;
    part.length = std::min(rest.length, resolution.ranges[i].length - skipped);
    RAY_HIXL_RETURN_IF_ERROR(add(part, resolution.memory_at(part.address), jobs));
    rest.local += part.length;
    rest.offset += part.length;
    rest.length -= part.length;
  }
  return Status::ok();
}

Status Flight::add(transport::Piece piece, transport::RemoteMemory memory, Jobs& jobs) const {
  const Candidate*& chosen = jobs.chosen[static_cast<std::size_t>(memory)];
  if (chosen == nullptr) chosen = choose(memory, jobs);
  if (chosen == nullptr) return host_->no_path(memory);
  std::shared_ptr<transport::Job>& job = jobs.of[static_cast<std::size_t>(chosen - host_->paths().candidates().data())];
  if (!job) {
    job = std::make_shared<transport::Job>();
    if (plan_->pieces.size() > transport::kFewPieces) job = host_->reaper().off_loop(std::move(job));
    job->transfer = state_;
    job->plan = plan_;
    job->pieces.reserve(plan_->pieces.size());
    job->has_another_way = has_another_way(*chosen, jobs.pins != nullptr);
    job->hosts_have_another_way = host_->choose(transport::RemoteMemory::kOrdinary) != nullptr;
    if (chosen->reads_by_address) {
      for (const auto& resolution : *resolutions_) {
        job->segments.insert(job->segments.end(), resolution->segments.begin(), resolution->segments.end());
      }
    }
  }
  job->has_another_way = job->has_another_way && may_turn_out(*chosen, memory);
  job->pieces.push_back(piece);
  return Status::ok();
}

// What moved it as pinned memory was never asked for it as what it is otherwise.
const Candidate* Flight::choose(transport::RemoteMemory memory, const Jobs& jobs) const {
  const bool was_tried = jobs.after != nullptr && jobs.after->channel->can_read(memory).is_ok();
  return was_tried ? host_->choose_after(*jobs.after, memory) : host_->choose(memory);
}

// Host memory has other ways mostly, which are better than to find out again and again what was found out a moment ago.
const Candidate* Flight::choose_pins() const {
  const Candidate* const pins = host_->choose(transport::RemoteMemory::kPinned);
  const bool turned_out = pins != nullptr && !pins->channel->reads_now(transport::RemoteMemory::kPinned).is_ok();
  return turned_out && host_->choose(transport::RemoteMemory::kOrdinary) != nullptr ? nullptr : pins;
}

// Where `chosen` turns out not to move what it may turn out not to: for all places of such memory.
bool Flight::has_another_way(const Candidate& chosen, bool pins) const {
  if (chosen.reads_by_address) return host_->choose_after(chosen, transport::RemoteMemory::kOwnersOnly) != nullptr;
  Jobs next;
  next.after = &chosen;
  return std::ranges::all_of(plan_->places, [&](const transport::DevicePlace& place) {
    return !may_turn_out(chosen, memory_of(place, pins)) || choose(memory_of(place, false), next) != nullptr;
  });
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
  return moved.with_context("reading from the " + host_->peer_name());
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
