#include "transport/hixl/delivery.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "transport/fetched.h"
#include "transport/hixl/cann/settings.h"
#include "transport/hixl/cann/start.h"
#include "transport/liveness.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr int kMostDescriptions = 5;             // of a peer that takes its engine for itself again and again
constexpr std::chrono::seconds kRemembered{60};  // what HIXL does not link

// Is another channel to try?
bool is_unlinked(const Status& status) { return status.code() == Code::kConnectError || status.code() == Code::kNotAvailable; }

}  // namespace

Delivery::Delivery(std::shared_ptr<const DeliveryContext> context, const void* channel, std::shared_ptr<Job> job, Ended ended)
    : context_(std::move(context)),
      channel_(channel),
      transfer_(job->transfer),
      ended_(std::move(ended)),
      hosts_have_another_way_(job->share->hosts_have_another_way),
      gives_way_at_(job->share->has_another_way && !context_->same_process ? Deadline::in(transfer_->deadline().remaining() / 2)
                                                                           : Deadline::never()),
      job_(std::move(job)) {}

void Delivery::start() { locate(); }

// Null if it has ended, or if something may write for it and `only_if_still`.
std::shared_ptr<Job> Delivery::take(bool only_if_still) {
  const MutexLock lock(mutex_);
  return only_if_still && moving_ > 0 ? nullptr : std::exchange(job_, nullptr);
}

void Delivery::end(const std::shared_ptr<Job>& taken, const Status& status) {
  if (!taken) return;
  ended_(*this);
  taken->end(status);
}

void Delivery::end(const Status& status) { end(take(false), status); }

// Looked at and taken in one: another thread may be about to move.
void Delivery::end_if_still(const Status& why) { end(take(true), why); }

void Delivery::locate() {
  std::vector<std::size_t> unknown;
  std::shared_ptr<const Plan> plan;
  {
    const MutexLock lock(mutex_);
    if (!job_) return;
    plan = job_->plan;
    std::vector<bool> needed(plan->sources.size());
    for (const Piece& piece : job_->pieces()) {
      if (plan->places[static_cast<std::size_t>(piece.place)].remote < 0) needed[piece.source] = true;
    }
    for (std::size_t source = 0; source < needed.size(); ++source) {
      if (needed[source]) unknown.push_back(source);
    }
    located_.resize(plan->sources.size());
    missing_ = unknown.size();
  }
  if (unknown.empty()) return plan_routes();
  for (const std::size_t source : unknown) {
    context_->locator->locate(plan->sources[source], [weak = weak_from_this(), source](Result<Locator::Ranges> ranges) {
      if (const auto delivery = weak.lock()) delivery->located(source, std::move(ranges));
    });
  }
  bound_wait();
}

// Does it wait for what the peer says, and nothing moves?
bool Delivery::awaits_peer() {
  const MutexLock lock(mutex_);
  return job_ && moving_ == 0 && (descriptions_.empty() || std::ranges::find(descriptions_, nullptr) != descriptions_.end());
}

// A peer describes no engine that it is about to replace, and one that is stopped says nothing. Most answers are known already.
void Delivery::bound_wait() {
  if (gives_way_at_.when() == Deadline::never().when() || !awaits_peer()) return;
  context_->engine.loop.post([weak = weak_from_this(), &loop = context_->engine.loop, at = gives_way_at_] {
    (void)loop.at(at, [weak] {
      if (const auto delivery = weak.lock()) delivery->give_way();
    });
  });
}

void Delivery::give_way() {
  if (!awaits_peer()) return;
  const Status why(Code::kConnectError,
                   "the peer has not told of its engine of HIXL within half of the transfer's time: it replaces it, or is stopped or "
                   "overloaded");
  for (const std::size_t route : undescribed()) note_late(routes_[route], why);
  end_if_still(why);
}

std::vector<std::size_t> Delivery::undescribed() {
  const MutexLock lock(mutex_);
  std::vector<std::size_t> routes;
  for (std::size_t route = 0; route < descriptions_.size(); ++route) {
    if (!descriptions_[route]) routes.push_back(route);
  }
  return routes;
}

void Delivery::located(std::size_t source, Result<Locator::Ranges> ranges) {
  if (!ranges.is_ok()) return end(ranges.status());
  {
    const MutexLock lock(mutex_);
    located_[source] = *std::move(ranges);
    if (--missing_ > 0) return;
  }
  plan_routes();
}

void Delivery::plan_routes() {
  const FindLocal find_local = [this](std::int32_t device, const std::byte* address, std::uint64_t length) {
    const auto found = context_->npus.started(device);
    return found ? found->find(address, length) : std::nullopt;
  };
  std::shared_ptr<Job> job;
  {
    const MutexLock lock(mutex_);
    if (!job_) return;
    job = job_;
    moving_ = 1;  // nobody gives its pieces to another channel meanwhile
  }
  Result<std::vector<Route>> routes = make_routes(*job->plan, job->pieces(), located_, find_local);
  if (!routes.is_ok()) return end(routes.status());
  routes_ = *std::move(routes);
  {
    const MutexLock lock(mutex_);
    moving_ = 0;
  }
  heed_ends();
  describe();
}

void Delivery::describe() {
  {
    const MutexLock lock(mutex_);
    descriptions_.resize(routes_.size());
  }
  if (context_->same_process) return move();
  if (const Status linked = check_unlinked(); !linked.is_ok()) return end(linked);
  {
    const MutexLock lock(mutex_);
    missing_ = routes_.size();
  }
  for (std::size_t route = 0; route < routes_.size(); ++route) {
    context_->locator->describe(routes_[route].remote, [weak = weak_from_this(), route](const Result<Locator::Description>& description) {
      if (const auto delivery = weak.lock()) delivery->described(route, description);
    });
  }
  bound_wait();
}

void Delivery::described(std::size_t route, const Result<Locator::Description>& description) {
  const Status fits = description.is_ok() ? check_peer_engine(**description, routes_[route]) : description.status();
  if (!fits.is_ok()) {
    note_unlinked(routes_[route], fits, kRemembered);
    return end(fits);
  }
  {
    const MutexLock lock(mutex_);
    descriptions_[route] = *description;
    if (--missing_ > 0) return;
  }
  move();
}

// HIXL itself would answer with a timeout.
Status Delivery::check_peer_engine(const control::DeviceDescription& description, const Route& route) const {
  const Cann& cann = *Cann::get();
  if (const std::string ours = fingerprint(cann, context_->engine.options); !agree(ours, description.fingerprint)) {
    return Status(Code::kNotAvailable, "HIXL is set up differently on the two sides: here '" + ours + "', there '" +
                                           description.fingerprint + "'. Use the same CANN version, environment and options on both");
  }
  if (route.host_here || route.host_there) {
    const Result<Settings> settings = Settings::of(cann, context_->engine.options);
    if (settings.is_ok()) RAY_HIXL_RETURN_IF_ERROR(settings->reach_host_memory(route.host_there, description.engine));
  }
  const auto physical = static_cast<std::uint32_t>(cann.physical_device(route.local));
  const bool same_npu = context_->peer.same_host && description.physical_device == physical;
  return same_npu ? check_same_npu(description.physical_device) : Status::ok();
}

// What HIXL does with HCCS from a device to itself is not known: nobody is to find out in the middle of a transfer.
Status Delivery::check_same_npu(std::uint32_t npu) const {
  const Cann& cann = *Cann::get();
  const std::string both = "both processes use NPU " + std::to_string(npu);
  if (!cann.client_server) {
    return Status(Code::kNotAvailable, both + ", and this version of HIXL (" + cann.api.version +
                                           ") links only different ones. CANN 9.1 can; else give each process an NPU of its own");
  }
  const Result<Settings> settings = Settings::of(cann, context_->engine.options);
  if (settings.is_ok() && settings->prefer_hccs()) {
    return Status(Code::kNotAvailable, both +
                                           ", where HIXL would take HCCS, which links only different ones. RoCE links one with itself: "
                                           "set HCCL_INTRA_ROCE_ENABLE=1 in every process; else give each process an NPU of its own");
  }
  return Status::ok();
}

void Delivery::move() {
  {
    const MutexLock lock(mutex_);
    if (!job_ || moving_ > 0) return;
    moving_ = missing_ = routes_.size();
  }
  for (std::size_t route = 0; route < routes_.size(); ++route) submit(route);
}

// Not ok: there is no engine here; or another channel is to have the job, without waiting for what was waited for a moment ago.
Status Delivery::check_unlinked() {
  for (const Route& route : routes_) {
    const auto npu = context_->npus.started(route.local);
    if (!npu || npu->can_link().is_ok()) continue;
    note_unlinked(route, npu->can_link(), kRemembered);
    return npu->can_link();
  }
  if (!has_another_way()) return Status::ok();
  for (const Route& route : routes_) RAY_HIXL_RETURN_IF_ERROR(context_->unlinked->find(route));
  return Status::ok();
}

bool Delivery::has_another_way() {
  const MutexLock lock(mutex_);
  return job_ && job_->share->has_another_way;
}

// The move is counted as moving.
void Delivery::submit(std::size_t index) {
  Route& route = routes_[index];
  const std::shared_ptr<Npu> npu = context_->npus.started(route.local);
  if (!npu) return finished(index, true, Status(Code::kClosed, "the engine was closed"));
  auto move = std::make_shared<Move>();
  move->ops = std::move(route.ops);
  move->remote_epoch = route.remote_epoch;
  move->local_epoch = route.local_epoch;
  move->transfer = transfer_;
  move->channel = channel_;
  move->owner = context_->peer.descriptor.incarnation;
  move->gives_way_at = gives_way_at_;
  move->done = [self = shared_from_this(), index, raw = move.get()](const Status& status) { self->moved(index, *raw, status); };
  if (context_->same_process) return npu->move(std::move(move), route.remote);
  move->described_epoch = descriptions_[index]->epoch;
  npu->driver().submit(descriptions_[index]->engine, std::move(move));
  // A close that came before the submit has abandoned the channel too early for this move.
  if (const Status open = context_->state(); !open.is_ok()) npu->driver().abandon(channel_, open);
}

void Delivery::moved(std::size_t index, Move& move, const Status& status) {
  if (move.gave_way) note_late(routes_[index], status);
  if (!may_have_moved(index, move, status)) return finished(index, true, status);
  routes_[index].ops = std::move(move.ops);
  {
    const MutexLock lock(mutex_);
    --moving_;
  }
  if (move.refused) return tell_of_refusal(index, status);
  describe_again(index, move.recalled, status);
}

// Has the peer's engine another name by now?
bool Delivery::may_have_moved(std::size_t index, const Move& move, const Status& status) const {
  if (context_->same_process || move.gave_way || stopping() || routes_[index].descriptions >= kMostDescriptions) return false;
  return move.recalled || status.code() == Code::kConnectError || status.code() == Code::kPeerGone;
}

// Nothing of it moves meanwhile: the answer may never come.
void Delivery::tell_of_refusal(std::size_t index, const Status& failure) {
  const auto noted = [weak = weak_from_this(), index, failure](bool is_replaced) {
    if (const auto self = weak.lock()) self->describe_again(index, is_replaced, failure);
  };
  context_->locator->cannot_link(routes_[index].remote, descriptions_[index], noted);
  heed_ends();
}

// The same; `is_another`: it is another engine even if it has the same name.
void Delivery::describe_again(std::size_t index, bool is_another, const Status& failure) {
  Route& route = routes_[index];
  ++route.descriptions;
  Locator::Description former;
  {
    const MutexLock lock(mutex_);
    former = std::exchange(descriptions_[index], nullptr);
  }
  context_->locator->forget(route.remote, former);
  const auto described = [weak = weak_from_this(), index, is_another, former, failure](const Result<Locator::Description>& description) {
    const auto self = weak.lock();
    if (!self) return;
    if (!description.is_ok()) return self->finished(index, false, failure);
    if (!is_another && (*description)->engine == former->engine) return self->finished(index, false, failure);
    {
      const MutexLock lock(self->mutex_);
      if (!self->job_) return;
      self->descriptions_[index] = *description;
      ++self->moving_;
    }
    self->submit(index);
  };
  context_->locator->describe(route.remote, described);
  bound_wait();
  heed_ends();
}

// Of the channel, and of the job, that came before it was still.
void Delivery::heed_ends() {
  if (const Status open = context_->state(); !open.is_ok()) return end_if_still(open);
  if (stopping()) end_if_still(transfer_->stop_reason());
}

// Where that is news it is told, once for each peer. Of two hosts with another way also where others of the job have none: the next one is
// split accordingly.
void Delivery::note_unlinked(const Route& route, const Status& why, std::chrono::seconds time) {
  const bool is_of_hosts = route.host_here && route.host_there;
  if (!is_unlinked(why) || !(is_of_hosts ? hosts_have_another_way_ : has_another_way())) return;
  if (!context_->unlinked->add(route, why, Deadline::in(time))) return;
  const std::string what = route.has_host() ? "pinned memory of the " : "NPU memory of the ";
  const std::string how = route.has_host() ? " is moved as host memory is otherwise" : " is staged through the host";
  log(LogLevel::kWarning, what + context_->peer.descriptor.name() + how + ", since HIXL does not link " + names_of(route) + ": " +
                              why.message() + ". It is tried again in " + std::to_string(time.count()) + " s");
}

// While HIXL's call, or the peer's answer, is still to come, as far as is known.
void Delivery::note_late(const Route& route, const Status& why) {
  const auto time = seconds_to_duration(context_->engine.options.connect_timeout_s);
  note_unlinked(route, why, std::chrono::ceil<std::chrono::seconds>(time));
}

void Delivery::note_linked(const Route& route) {
  if (!context_->unlinked->remove(route)) return;
  log(LogLevel::kInfo, "HIXL links " + names_of(route) + " of the " + context_->peer.descriptor.name() + " again");
}

void Delivery::finished(std::size_t index, bool moved, const Status& status) {
  note_unlinked(routes_[index], status, kRemembered);
  if (status.is_ok()) note_linked(routes_[index]);
  Status first;
  bool is_last = false;
  bool depends_on_source = false;  // it brought the bytes, or HIXL does not know the memory, which its owner may have freed meanwhile
  {
    const MutexLock lock(mutex_);
    if (!job_) return;
    if (error_.is_ok() && !status.is_ok()) error_ = status;
    if (status.is_ok()) count_fetched(*transfer_, context_->engine.counters, control::TransportKind::kHixl, routes_[index].bytes);
    if (!moved) ++moving_;
    is_last = --missing_ == 0;
    if (!is_last) --moving_;
    first = error_;
    depends_on_source = first.is_ok() || first.code() == Code::kInternal;
  }
  if (!is_last) {  // another route may wait for an answer that never comes
    bound_wait();
    return heed_ends();
  }
  if (depends_on_source && !context_->peer.shows_generations) return confirm(first);
  end(first);
}

// The last byte is in, or never will be: was the source still what it was? It counts as moving until that was asked: the job's end may be
// the link's.
void Delivery::confirm(const Status& moved) {
  std::vector<Handle> sources;
  {
    const MutexLock lock(mutex_);
    sources = job_->plan->sources;
  }
  ask_live(context_->locator->port(), sources, [weak = weak_from_this(), moved](const Status& live) {
    if (const auto delivery = weak.lock()) delivery->end(live.is_ok() ? moved : live);
  });
  {
    const MutexLock lock(mutex_);
    moving_ = 0;
  }
  if (const Status open = context_->state(); !open.is_ok()) return end(open);
  if (stopping()) end(transfer_->stop_reason());
}

}  // namespace ray_hixl::transport::hixl
