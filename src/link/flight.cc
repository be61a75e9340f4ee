#include "link/flight.h"

#include <algorithm>
#include <utility>

#include "link/peer_link.h"

namespace ray_hixl::link {
namespace {

// How long a transport may take to stop before its memory is put in quarantine.
constexpr std::chrono::seconds kStopTime{2};

}  // namespace

void Flight::start(std::shared_ptr<PeerLink> link, std::shared_ptr<const transport::Plan> plan,
                   std::shared_ptr<transport::TransferState> state) {
  const auto flight = std::make_shared<Flight>(std::move(link), std::move(plan), std::move(state));
  flight->state_->set_stop_hook([weak = std::weak_ptr(flight)] {
    if (const auto running = weak.lock()) running->on_stop();
  });
  flight->resolve();
  if (!flight->state_->done()) flight->arm();
}

Flight::Flight(std::shared_ptr<PeerLink> link, std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state)
    : link_(std::move(link)), plan_(std::move(plan)), state_(std::move(state)) {}

void Flight::resolve() {
  if (const Status up = link_->state(); !up.is_ok()) return end(up);
  const bool host_memory = std::ranges::any_of(plan_->pieces, [](const transport::Piece& piece) { return piece.place < 0; });
  if (!host_memory || !link_->paths().needs_addresses()) return dispatch();
  {
    const MutexLock lock(mutex_);
    resolutions_.resize(plan_->sources.size());
    unresolved_ = plan_->sources.size();
  }
  for (std::size_t source = 0; source < plan_->sources.size(); ++source) {
    link_->resolver().resolve(plan_->sources[source],
                              [self = shared_from_this(), source](Result<std::shared_ptr<const Resolution>> answer) {
                                self->resolved(source, std::move(answer));
                              });
  }
}

void Flight::resolved(std::size_t source, Result<std::shared_ptr<const Resolution>> resolution) {
  if (!resolution.is_ok()) return end(verdict(resolution.status()));
  {
    const MutexLock lock(mutex_);
    resolutions_[source] = *std::move(resolution);
    if (--unresolved_ > 0) return;
  }
  dispatch();
}

void Flight::dispatch() {
  std::vector<std::shared_ptr<transport::Job>> jobs(link_->paths().candidates().size());
  if (const Status status = split(jobs); !status.is_ok()) return end(status);
  {
    const MutexLock lock(mutex_);
    if (phase_ != Phase::kResolving) return;
    phase_ = Phase::kMoving;
    moving_ = static_cast<std::size_t>(std::ranges::count_if(jobs, [](const auto& job) { return job != nullptr; }));
  }
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (!jobs[i]) continue;
    jobs[i]->done = [self = shared_from_this()](const Status& status) { self->job_done(status); };
    link_->paths().candidates()[i].channel->submit(std::move(jobs[i]));
  }
  if (state_->stopping()) on_stop();  // it may have come between the two
}

Status Flight::split(std::vector<std::shared_ptr<transport::Job>>& jobs) const {
  for (const transport::Piece& piece : plan_->pieces) {
    if (piece.place >= 0) {
      RAY_HIXL_RETURN_IF_ERROR(add(piece, transport::RemoteMemory::kDevice, jobs));
    } else if (resolutions_.empty()) {
      RAY_HIXL_RETURN_IF_ERROR(add(piece, transport::RemoteMemory::kOrdinary, jobs));
    } else {
      RAY_HIXL_RETURN_IF_ERROR(split_piece(piece, jobs));
    }
  }
  return Status::ok();
}

// One piece per range that it touches.
Status Flight::split_piece(const transport::Piece& piece, std::vector<std::shared_ptr<transport::Job>>& jobs) const {
  const Resolution& resolution = *resolutions_[piece.source];
  if (piece.offset > resolution.length || piece.length > resolution.length - piece.offset) {
    return Status(Code::kInvalidRegion, std::to_string(piece.length) + " bytes at offset " + std::to_string(piece.offset) +
                                            " lie outside of the " + std::to_string(resolution.length) + " bytes that the " +
                                            link_->peer().descriptor.name() + " registered");
  }
  transport::Piece rest = piece;
  for (std::size_t i = resolution.range_at(piece.offset); rest.length > 0; ++i) {
    if (resolution.ranges[i].address == 0) {
      return Status(Code::kInvalidRegion,
                    "the bytes lie in device memory of the " + link_->peer().descriptor.name() + ", and cannot be read into host memory");
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

Status Flight::add(transport::Piece piece, transport::RemoteMemory memory, std::vector<std::shared_ptr<transport::Job>>& jobs) const {
  const Candidate* const chosen = link_->choose(memory);
  if (chosen == nullptr) return link_->no_path(memory);
  std::shared_ptr<transport::Job>& job = jobs[static_cast<std::size_t>(chosen - link_->paths().candidates().data())];
  if (!job) {
    job = std::make_shared<transport::Job>();
    job->transfer = state_;
    job->plan = plan_;
    job->pieces.reserve(plan_->pieces.size());
    if (chosen->reads_by_address) {
      for (const auto& resolution : resolutions_) {
        job->segments.insert(job->segments.end(), resolution->segments.begin(), resolution->segments.end());
      }
    }
  }
  job->pieces.push_back(piece);
  return Status::ok();
}

void Flight::job_done(const Status& status) {
  bool leave_quarantine = false;
  Status moved;
  {
    const MutexLock lock(mutex_);
    if (error_.is_ok() && !status.is_ok()) error_ = status;
    if (--moving_ > 0) return;
    leave_quarantine = quarantined_;
    moved = error_;
  }
  if (leave_quarantine) {
    link_->counters().quarantined_bytes.fetch_sub(plan_->bytes, std::memory_order_relaxed);
  } else {
    end(verdict(moved));
  }
}

Status Flight::timed_out() const {
  return Status(Code::kTransferTimeout, "the deadline passed while reading from the " + link_->peer().descriptor.name() +
                                            "; it may be stopped or overloaded. Give the transfer more time if it is only slow");
}

// What the transfer ends with, when `moved` is what the transports (or the resolving) say.
Status Flight::verdict(const Status& moved) const {
  if (!moved.is_ok() && state_->stopping()) {
    Status reason = state_->stop_reason();
    return reason.code() == Code::kTransferTimeout ? timed_out() : reason;
  }
  if (const Status alive = link_->check_alive(); !alive.is_ok()) return alive;
  for (const Handle& source : plan_->sources) {
    if (link_->is_live(source)) continue;
    link_->resolver().forget(source);
    return Status(Code::kInvalidRegion,
                  "the " + link_->peer().descriptor.name() + " closed or freed the memory before it was read to the end");
  }
  return moved.with_context("reading from the " + link_->peer().descriptor.name());
}

void Flight::end(const Status& result) {
  {
    const MutexLock lock(mutex_);
    phase_ = Phase::kEnded;
  }
  state_->finish(result);
  if (!armed_) return;
  link_->loop().post([self = shared_from_this()] {
    if (self->timer_ != 0) self->link_->loop().cancel(std::exchange(self->timer_, 0));
  });
}

void Flight::on_stop() {
  Phase phase{};
  {
    const MutexLock lock(mutex_);
    phase = phase_;
  }
  if (phase == Phase::kResolving) return end(state_->stop_reason());
  if (phase == Phase::kEnded) return;
  for (const Candidate& candidate : link_->paths().candidates()) {
    if (candidate.channel) candidate.channel->stop_stopping();
  }
  armed_ = true;
  link_->loop().post([self = shared_from_this()] {
    if (self->state_->done()) return;
    if (self->timer_ != 0) self->link_->loop().cancel(self->timer_);
    self->timer_ = self->link_->loop().at(Deadline::in(kStopTime), [weak = self->weak_from_this()] {
      if (const auto flight = weak.lock()) flight->overdue();
    });
  });
}

// Its deadline, on the loop.
void Flight::arm() {
  if (state_->deadline().when() == Clock::time_point::max()) return;
  armed_ = true;
  link_->loop().post([self = shared_from_this()] {
    if (self->state_->done() || self->timer_ != 0) return;
    self->timer_ = self->link_->loop().at(self->state_->deadline(), [weak = self->weak_from_this()] {
      const auto flight = weak.lock();
      if (!flight) return;
      flight->timer_ = 0;
      flight->state_->request_stop(flight->timed_out());
    });
  });
}

// A transport was asked to stop and did not.
void Flight::overdue() {
  timer_ = 0;
  {
    const MutexLock lock(mutex_);
    if (moving_ == 0) return;
    quarantined_ = true;
  }
  link_->counters().quarantined_bytes.fetch_add(plan_->bytes, std::memory_order_relaxed);
  const Status reason = state_->stop_reason();
  state_->finish(
      Status(reason.code(),
             reason.message() + ". A transport has not stopped yet: the target memory may still be written, and is kept until it has"));
}

}  // namespace ray_hixl::link
