#include "engine/engine_impl.h"

#include <algorithm>
#include <cassert>

#include "base/process_shared.h"
#include "base/random.h"
#include "control/auth.h"
#include "engine/pending.h"
#include "engine/transports.h"
#include "memory/copy_kernels.h"
#include "net/identity.h"

namespace ray_hixl {
namespace {

Status engine_closed() {
  Status ending = check_not_ending();
  return ending.is_ok() ? Status(Code::kClosed, "the engine was closed; create another one") : ending;
}

// An opening ends at its deadline and says how far it came: this gives it the moment that takes.
Deadline a_moment_after(Deadline deadline) {
  const std::chrono::nanoseconds longest = std::chrono::hours(24 * 365);
  return Deadline::in(std::min(deadline.remaining(), longest) + std::chrono::seconds(1));
}

}  // namespace

EngineImpl::EngineImpl(const Options& options) : options_(options) {}

EngineImpl::~EngineImpl() {
  if (!stopped_) stop();
}

Result<std::shared_ptr<EngineImpl>> EngineImpl::create(const Options& options) {
  RAY_HIXL_RETURN_IF_ERROR(validate(options));
  std::shared_ptr<EngineImpl> engine(new EngineImpl(options), &EngineImpl::let_go);
  Status started = engine->start();
  if (started.is_ok()) started = engine->running_.started(engine);
  if (started.is_ok()) return engine;
  engine->close();
  return started.with_context("cannot create an engine");
}

void EngineImpl::let_go(EngineImpl* engine) noexcept {
  if (engine->in_child()) return;
  if (engine->stopped()) {
    delete engine;
  } else {
    engine->close_elsewhere([engine] { delete engine; });
  }
}

// Where no thread can be had just now, the loop asks again until one can: it is the one thread that is there in any case.
void EngineImpl::close_elsewhere(const std::function<void()>& closing) noexcept {
  if (close_in_background(closing)) return;
  loop_->post([this, closing] { loop_->at(Deadline::in(std::chrono::seconds(1)), [this, closing] { close_elsewhere(closing); }); });
}

Status EngineImpl::start() {
  RAY_HIXL_RETURN_IF_ERROR(start_memory_and_threads());
  RAY_HIXL_RETURN_IF_ERROR(start_transports());
  return start_network();
}

Status EngineImpl::start_memory_and_threads() {
  Result<std::unique_ptr<memory::SlotTable>> slots = memory::SlotTable::create(reaper_);
  if (!slots.is_ok()) return slots.status();
  slots_ = *std::move(slots);
  source_ = memory::Arena::create(memory::ArenaKind::kSource, options_.source_arena_bytes, reaper_.dropper());
  landing_ = memory::Arena::create(memory::ArenaKind::kLanding, options_.landing_arena_bytes, reaper_.dropper());
  Result<std::unique_ptr<net::Loop>> loop = net::Loop::create("hixl-loop");
  if (!loop.is_ok()) return loop.status();
  loop_ = *std::move(loop);
  processes_ = std::make_unique<net::Processes>(*loop_);
  pool_ = std::make_unique<memory::CopyPool>(options_.copy_threads);
  counters_ = std::make_shared<transport::Counters>();
  memory::choose_copying();
  for (memory::Arena* arena : {source_.get(), landing_.get()}) give_back_when_idle(*arena);
  return Status::ok();
}

// Looked at only while there is something to give back, so that an idle engine is not woken.
void EngineImpl::give_back_when_idle(memory::Arena& arena) {
  arena.set_surplus([this, &arena] { loop_->post([this, &arena] { look_for_idleness(arena); }); });
}

void EngineImpl::look_for_idleness(memory::Arena& arena) {
  loop_->at(Deadline::in(seconds_to_duration(options_.idle_timeout_s)), [this, &arena] {
    if (arena.look_for_idleness()) look_for_idleness(arena);
  });
}

Status EngineImpl::start_transports() {
  Result<net::HostIdentity> process = net::this_process();
  if (!process.is_ok()) return process.status();
  Incarnation self;
  fill_random(self);
  devices_ = choose_devices(options_, reaper_, source_, end_engines_before_what_is_loaded);
  context_.emplace(
      transport::Context{self, *process, options_, *loop_, *processes_, *slots_, *source_, *pool_, reaper_, *counters_, devices_});
  Result<ChosenTransports> chosen = choose_transports(*context_);
  if (!chosen.is_ok()) return chosen.status();
  transports_ = std::move(chosen->transports);
  absent_ = std::move(chosen->absent);
  return Status::ok();
}

Status EngineImpl::start_network() {
  control::Key key;
  fill_random(key);
  Result<std::unique_ptr<link::Server>> server = link::Server::create(*context_, key, transports_);
  if (!server.is_ok()) return server.status();
  server_ = *std::move(server);
  descriptor_ = control::encode(server_->descriptor());
  source_->set_retired([server = server_.get()](std::uint32_t segment) { server->segment_retired(segment); });
  links_ = std::make_unique<link::Links>(*context_, transports_);
  return Status::ok();
}

Status EngineImpl::check() const {
  if (closed_.load(std::memory_order_acquire)) return engine_closed();
  return guard_.check();
}

bool EngineImpl::on_own_thread() const { return (loop_ && loop_->on_loop()) || reaper_.on_reaper(); }

bool EngineImpl::stopped() {
  const MutexLock lock(close_mutex_);
  return stopped_;
}

void EngineImpl::close() {
  if (in_child()) return;  // before any lock, which another thread may have held when the process forked
  closed_.store(true, std::memory_order_release);
  if (on_own_thread()) {
    close_elsewhere([self = shared_from_this()] { self->close(); });
    return;
  }
  const MutexLock lock(close_mutex_);
  if (!stopped_) stop();
}

// Readers first, then those who serve others, then the threads, then memory. Parts are missing if start() failed half-way.
void EngineImpl::stop() {
  stopped_ = true;
  if (links_) links_->close_all(engine_closed());
  if (server_) server_->close();
  shut_down_transports();
  if (devices_) devices_->stop();
  if (pool_) pool_->stop();
  if (loop_) loop_->stop();
  if (slots_) slots_->end();
  if (source_) source_->set_retired(nullptr);
  for (memory::Arena* arena : {source_.get(), landing_.get()}) {
    if (arena != nullptr) arena->set_surplus(nullptr);
  }
  reaper_.stop();
}

void EngineImpl::shut_down_transports() {
  if (transports_.empty()) return;
  const auto finished = std::make_shared<Pending<bool>>();
  const bool posted = loop_->post([this, finished] {
    for (const auto& transport : transports_) transport->shut_down();
    finished->set(true);
  });
  if (posted) (void)finished->wait(Deadline::in(std::chrono::seconds(10)));  // the loop's stop() waits for it in any case
}

Result<std::shared_ptr<link::Link>> EngineImpl::open_link(const control::EngineDescriptor& peer, Deadline deadline) {
  const auto pending = std::make_shared<Pending<Result<std::shared_ptr<link::Link>>>>();
  links_->open(peer, deadline, [pending](Result<std::shared_ptr<link::Link>> link) { pending->set(std::move(link)); });
  auto link = pending->wait(a_moment_after(deadline));
  if (!link) return Status(Code::kConnectError, "connecting to the " + peer.name() + " timed out");
  // One that was up already may be of a peer that has ended, which the loop has not heard yet. One that was retired meanwhile is no loss.
  const Status alive = link->is_ok() ? (**link)->check_alive() : Status::ok();
  if (alive.code() == Code::kPeerGone) return alive;
  return *std::move(link);
}

Result<Handle> EngineImpl::publish_slot(memory::SlotContent content, SlotUse use) {
  std::shared_ptr<const void> owner = content.owner;
  Result<Handle> handle = slots_->publish(std::move(content));
  if (!handle.is_ok()) {
    reaper_.drop(std::move(owner));
    return handle.status();
  }
  live_count(use).fetch_add(1, std::memory_order_relaxed);
  if (use == SlotUse::kObject) objects_published_.fetch_add(1, std::memory_order_relaxed);
  if (const Status status = check(); !status.is_ok()) {  // close() may have retired everything just before
    retire_slot(*handle, use);
    return status;
  }
  return handle;
}

bool EngineImpl::retire_slot(const Handle& handle, SlotUse use) {
  if (in_child() || !slots_->retire(handle)) return false;
  live_count(use).fetch_sub(1, std::memory_order_relaxed);
  return true;
}

Status check_time(Deadline deadline, const control::EngineDescriptor& peer) {
  if (!deadline.passed()) return Status::ok();
  return Status(Code::kTransferTimeout, "the timeout left no time to read from the " + peer.name() + ", which was not asked for anything");
}

std::shared_ptr<transport::TransferState> EngineImpl::new_transfer(Deadline deadline, transport::TransferState::Settle explain) {
  counters_->transfers_started.fetch_add(1, std::memory_order_relaxed);
  counters_->transfers_in_flight.fetch_add(1, std::memory_order_relaxed);
  auto settle = [counters = counters_, explain = std::move(explain)](Status result) {
    auto& outcome = result.is_ok() ? counters->transfers_succeeded : counters->transfers_failed;
    outcome.fetch_add(1, std::memory_order_relaxed);
    counters->transfers_in_flight.fetch_sub(1, std::memory_order_relaxed);
    return result.is_ok() || !explain ? result : explain(std::move(result));
  };
  return make_process_shared<transport::TransferState>(deadline, std::move(settle));
}

Stats EngineImpl::stats() const {
  if (in_child()) return {};
  const transport::Counters& c = *counters_;
  Stats stats;
  for (std::size_t kind = 0; kind < c.fetched.size(); ++kind) {
    const std::uint64_t bytes = c.fetched[kind].load(std::memory_order_relaxed);
    if (bytes != 0) stats.fetched.push_back({std::string(control::kind_name(static_cast<control::TransportKind>(kind))), bytes});
  }
  stats.staged_mapped_bytes = c.staged_mapped.load(std::memory_order_relaxed);
  stats.transfers_started = c.transfers_started.load(std::memory_order_relaxed);
  stats.transfers_succeeded = c.transfers_succeeded.load(std::memory_order_relaxed);
  stats.transfers_failed = c.transfers_failed.load(std::memory_order_relaxed);
  stats.transfers_in_flight = c.transfers_in_flight.load(std::memory_order_relaxed);
  stats.quarantined_bytes = c.quarantined_bytes.load(std::memory_order_relaxed);
  const bool closed = closed_.load(std::memory_order_acquire);  // then every slot is retired
  stats.regions = closed ? 0 : regions_.load(std::memory_order_relaxed);
  stats.objects = closed ? 0 : objects_.load(std::memory_order_relaxed);
  stats.objects_published = objects_published_.load(std::memory_order_relaxed);
  stats.resolved = c.resolved.load(std::memory_order_relaxed);
  stats.served_bytes = c.served_bytes.load(std::memory_order_relaxed);
  stats.links = c.links.load(std::memory_order_relaxed);
  stats.sessions = c.sessions.load(std::memory_order_relaxed);
  stats.links_lost = c.links_lost.load(std::memory_order_relaxed);
  stats.handshakes_refused = c.handshakes_refused.load(std::memory_order_relaxed);
  stats.longest_turn_s = std::chrono::duration<double>(loop_->longest_turn()).count();
  stats.source = source_->stats();
  stats.landing = landing_->stats();
  stats.devices = devices_->stats();
  return stats;
}

}  // namespace ray_hixl
