#include "link/link.h"

#include <algorithm>
#include <utility>

#include "net/socket.h"
#include "transport/copies.h"
#include "transport/fetched.h"
#include "transport/liveness.h"

namespace ray_hixl::link {
namespace {

constexpr Clock::duration kFirstImprovePause = std::chrono::seconds(1);
constexpr Clock::duration kLongestImprovePause = std::chrono::minutes(10);
// A link is looked at so often while it is idle, until it is closed.
constexpr int kIdleLooks = 2;

// The kernel drops a descriptor that finds no room, and says no more than that.
Status no_room_for_descriptors() {
  const std::string what = "a file descriptor that the peer passed found no room here";
  const Status now = check_spare_descriptor(what);
  return now.is_ok() ? Status(Code::kOutOfMemory, what + " for a moment (ulimit -n)") : now;
}

}  // namespace

std::shared_ptr<Link> Link::start(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports,
                                  const control::EngineDescriptor& peer, Dialed dialed, Callbacks callbacks) {
  auto link = std::make_shared<Link>(context, transports, peer);
  link->callbacks_ = std::move(callbacks);
  link->listen(std::move(dialed));
  return link;
}

Link::Link(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports,
           const control::EngineDescriptor& peer)
    : context_(context),
      transports_(transports),
      resolver_(std::make_shared<Resolver>(*this, context.copy_pool, context.reaper)),
      improve_pause_(kFirstImprovePause) {
  peer_.descriptor = peer;
}

void Link::listen(Dialed dialed) {
  const bool same_host = peer_.descriptor.boot_id == context_.process.boot_id;
  peer_.same_host = same_host;
  peer_.same_pid_namespace = same_host && peer_.descriptor.pid_namespace == context_.process.pid_namespace;
  peer_.over_unix_socket = dialed.over_unix_socket;
  no_unix_socket_ = std::move(dialed.no_unix_socket);
  shortfalls_ += dialed.unix_socket_failed ? 3 : 0;  // the two others come over it
  if (dialed.over_unix_socket) {
    const Result<net::PeerProcess> process = net::peer_process(dialed.socket);
    peer_.same_uid = process.is_ok() && process->uid == context_.process.uid;
  } else if (const Status status = net::set_dead_peer_timeout(dialed.socket, context_.options.stall_timeout_s); !status.is_ok()) {
    context_.loop.post([self = shared_from_this(), status] { self->go_down(status); });
  }
  net::Connection::Callbacks callbacks;
  callbacks.on_bytes = [weak = weak_from_this()](std::span<const std::byte> bytes, net::Arrival arrival) {
    const auto link = weak.lock();
    return link ? link->on_bytes(bytes, std::move(arrival)) : bytes.size();
  };
  callbacks.on_closed = [weak = weak_from_this()](const Status& why) {
    if (const auto link = weak.lock()) link->go_down(why);
  };
  // What another user passes could be a file whose pages it gives when it likes.
  const auto passing = peer_.same_uid ? net::Connection::Passing::kAccepted : net::Connection::Passing::kRefused;
  connection_.emplace(context_.loop, std::move(dialed.socket), control::kLongestFrame, std::move(callbacks), passing);
}

std::size_t Link::on_bytes(std::span<const std::byte> bytes, net::Arrival arrival) {
  Status status = frames_.arrived(bytes, arrival.fresh, std::move(arrival.fds), arrival.fds_lost);
  bool is_last = false;
  while (status.is_ok() && connection_ && !is_last) status = on_next_frame(is_last);
  if (!status.is_ok()) go_down(Status(Code::kPeerGone, status.message()));
  if (connection_ && frames_.consumed() < bytes.size()) connection_->expect(frames_.awaited());
  return frames_.consumed();
}

Status Link::on_next_frame(bool& is_last) {
  Result<std::optional<control::FrameReader::Received>> received = frames_.next();
  if (!received.is_ok()) return received.status();
  is_last = !received->has_value();
  return is_last ? Status::ok() : on_frame(**std::move(received));
}

Status Link::on_frame(control::FrameReader::Received received) {
  const control::Frame& frame = received.frame;
  if (frame.type == control::MessageType::kWelcome && frame.request == 0) return on_welcome(received);
  if (!paths_) return Status(Code::kInvalidArgument, "the peer spoke before its welcome");
  return frame.request == 0 ? on_notice(frame) : on_answer(std::move(received));
}

// A notice that this version does not know is from a later one, and of no use here.
Status Link::on_notice(const control::Frame& notice) {
  if (!control::is_known(notice.type)) return Status::ok();
  for (const Candidate& each : paths_->candidates()) {
    if (each.channel) each.channel->on_notice(notice);
  }
  return Status::ok();
}

Status Link::on_answer(control::FrameReader::Received received) {
  const control::Frame& frame = received.frame;
  if (frame.type == control::MessageType::kFailure) {
    const Result<control::Failure> failure = control::decode_failure(frame.body);
    if (!failure.is_ok()) return failure.status();
    answer(frame.request, failure->status);
  } else if (!control::is_known(frame.type)) {
    answer(frame.request,
           Status(Code::kNotAvailable, "the peer answered with a message of type " + std::to_string(static_cast<unsigned>(frame.type)) +
                                           ", which this version of ray-hixl does not know"));
  } else if (received.descriptors_lost) {
    answer(frame.request, no_room_for_descriptors());
  } else {
    const bool kept = received.alone && frame.bytes.size() > kLargeAnswer;
    auto bytes = kept ? connection_->take_bytes() : std::vector<std::byte>(frame.bytes.begin(), frame.bytes.end());
    answer(frame.request, transport::Reply{frame.type, std::move(bytes), std::move(received.descriptors)});
  }
  return Status::ok();
}

Status Link::on_welcome(const control::FrameReader::Received& received) {
  Result<control::Welcome> welcome = control::decode_welcome(received.frame.body);
  if (!welcome.is_ok()) return welcome.status();
  if (paths_) return Status(Code::kInvalidArgument, "the peer sent a second welcome");
  peer_.welcome = *std::move(welcome);
  RAY_HIXL_RETURN_IF_ERROR(take_generations(received));
  RAY_HIXL_RETURN_IF_ERROR(watch_process());
  choose_channels();
  watch_idleness();
  improve_at_ = Clock::now() + improve_pause_;
  improvable_ = shortfalls_ > 0;
  context_.counters.links.fetch_add(1, std::memory_order_relaxed);
  std::exchange(callbacks_.ready, nullptr)(Status::ok());
  return Status::ok();
}

// A link can do without: the owner sends the bytes, and says itself what is live. But the table is there for who is of the same user and
// host, so it is missing because a descriptor was, here or there.
Status Link::take_generations(const control::FrameReader::Received& received) {
  if (peer_.welcome.has_generations && !received.descriptors_lost) {
    if (received.descriptors.empty()) return Status(Code::kInvalidArgument, "the peer's welcome came without its generation table");
    auto view = memory::GenerationView::map(received.descriptors.front());
    if (!view.is_ok()) return view.status();
    generations_ = *std::move(view);
    peer_.shows_generations = true;
  } else if (peer_.same_uid) {
    ++shortfalls_;
  }
  return Status::ok();
}

// A dead process is known at once even where a child of it keeps the socket open. Not ok if it is dead already.
Status Link::watch_process() {
  if (!peer_.same_pid_namespace || peer_.welcome.pid == context_.process.pid) return Status::ok();
  Result<std::shared_ptr<net::WatchedProcess>> process = context_.processes.watch(peer_.welcome.pid);
  if (process.status().code() == Code::kPeerGone) return process.status();
  if (!process.is_ok()) {  // the connection tells of its end, too
    shortfalls_ += process.status().code() == Code::kOutOfMemory ? 1 : 0;
    return Status::ok();
  }
  process_ = *std::move(process);
  death_ = process_->on_death([weak = weak_from_this()] {
    if (const auto link = weak.lock()) link->go_down(Status(Code::kPeerGone, "its process ended"));
  });
  return Status::ok();
}

void Link::choose_channels() {
  std::vector<Candidate> candidates;
  for (const auto& transport : transports_) candidates.push_back(candidate(*transport));
  paths_.emplace(std::move(candidates));
  for (const auto memory :
       {transport::RemoteMemory::kOrdinary, transport::RemoteMemory::kSourceArena, transport::RemoteMemory::kOwnersOnly}) {
    chosen_[static_cast<std::size_t>(memory)] = paths_->choose(memory);
  }
}

Candidate Link::candidate(transport::Transport& transport) {
  Candidate made;
  made.kind = transport.kind();
  made.reads_by_address = transport.reads_by_address();
  const auto offered = std::ranges::find(peer_.welcome.transports, transport.kind(), &control::TransportInfo::kind);
  if (offered == peer_.welcome.transports.end()) {
    made.refused = "the peer runs without it (its Options.transports, or what its machine can do)";
    return made;
  }
  if (made.reads_by_address && !peer_.shows_generations && peer_.same_uid) {  // nobody would see that the memory was freed meanwhile
    made.refused = "the peer's generation table could not be had: file descriptors ran out, here or there, or the peer has no memfd_create";
    return made;
  }
  Result<std::unique_ptr<transport::Channel>> channel = transport.open(peer_, offered->details, *this);
  if (channel.is_ok()) {
    made.channel = *std::move(channel);
  } else {
    made.refused = channel.status().message();
    if (!no_unix_socket_.empty() && !peer_.over_unix_socket) made.refused += "; " + no_unix_socket_;
  }
  return made;
}

const Candidate* Link::choose(transport::RemoteMemory memory) const {
  if (!transport::is_host(memory)) return paths_->choose(memory);
  return chosen_[static_cast<std::size_t>(memory)];
}

Status Link::no_path(transport::RemoteMemory memory) const {
  std::string reasons;
  for (const auto& [transport, why] : paths_->refused(memory)) reasons += (reasons.empty() ? "" : "; ") + transport + ": " + why;
  return Status(Code::kNotAvailable, "no transport can read from the " + peer_.descriptor.name() + " (" + reasons +
                                         "). Allow another one in Options.transports");
}

Status Link::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

Status Link::check_alive() const {
  if (!is_up()) RAY_HIXL_RETURN_IF_ERROR(state());
  if (generations_ && generations_->ended()) return Status(Code::kPeerGone, "the " + peer_.descriptor.name() + " was closed");
  if (!process_ || process_->alive()) return Status::ok();
  return Status(Code::kPeerGone, "the process of the " + peer_.descriptor.name() + " ended");
}

// False once it was retired.
bool Link::begin_use() {
  if ((uses_.fetch_add(1, std::memory_order_acq_rel) & kRetired) != 0) {
    end_use();
    return false;
  }
  begun_.fetch_add(1, std::memory_order_relaxed);
  if (improvable_.load(std::memory_order_relaxed)) ask_for_better();
  return true;
}

// One use of it, for as long as the pointer lives. Null once it was retired.
std::shared_ptr<Link> Link::use() {
  if (!begin_use()) return nullptr;
  return {this, [self = shared_from_this()](Link*) { self->end_use(); }};
}

void Link::end_use() {
  if (uses_.fetch_sub(1, std::memory_order_acq_rel) == (kRetired | 1)) close(Status(Code::kClosed, "the link is not used any more"));
}

void Link::retire() {
  if (uses_.fetch_or(kRetired, std::memory_order_acq_rel) == 0) close(Status(Code::kClosed, "the link is not used any more"));
}

void Link::ask_for_better() {
  if (Clock::now() < improve_at_.load(std::memory_order_relaxed) || !improvable_.exchange(false)) return;
  context_.loop.post([self = shared_from_this()] {
    if (self->callbacks_.improve) self->callbacks_.improve();
  });
}

void Link::not_improved() {
  improve_pause_ = std::min(2 * improve_pause_, kLongestImprovePause);
  improve_at_ = Clock::now() + improve_pause_;
  improvable_ = true;
}

// Looks are few and far between, and cost the uses no clock: the link is closed after one to one and a half times idle_timeout_s.
void Link::watch_idleness() {
  const std::chrono::nanoseconds timeout = seconds_to_duration(context_.options.idle_timeout_s);
  idle_timer_ = context_.loop.at(Deadline::in(timeout / kIdleLooks), [weak = weak_from_this()] {
    const auto link = weak.lock();
    if (link && link->idle_timer_ != 0) link->look_for_idleness();
  });
}

void Link::look_for_idleness() {
  const std::uint64_t begun = begun_.load(std::memory_order_relaxed);
  const bool used = begun != std::exchange(begun_before_, begun) || uses_.load(std::memory_order_acquire) != 0;
  idle_looks_ = used ? 0 : idle_looks_ + 1;
  std::uint64_t unused = 0;
  if (idle_looks_ < kIdleLooks || !uses_.compare_exchange_strong(unused, kRetired, std::memory_order_acq_rel)) return watch_idleness();
  go_down(Status(Code::kClosed, "the link was not used for long"));
}

bool Link::submit(std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state) {
  auto used = use();
  if (!used) return false;
  Flight::start(std::move(used), std::move(plan), std::move(state));
  return true;
}

bool Link::copy_now(const transport::Plan& plan, transport::TransferState& state) {
  if (plan.bytes > transport::Copies::kOneThreadBytes || !generations_ || !begin_use()) return false;
  const Candidate* const from = copy_share(plan);
  if (from != nullptr) transport::count_fetched(state, context_.counters, from->kind, plan.bytes);
  end_use();
  return from != nullptr;
}

// Gives who copied it. Sees what a flight would see before and after; whatever is not as it should be is for a flight to name.
const Candidate* Link::copy_share(const transport::Plan& plan) {
  auto known = known_of(plan);
  if (!known || known->paths != paths_->id()) known = split_now(*this, plan);
  if (!known) return nullptr;
  const auto has_share = [](const auto& share) { return share != nullptr; };
  const auto first = std::ranges::find_if(known->shares, has_share);
  if (first == known->shares.end() || std::any_of(first + 1, known->shares.end(), has_share)) return nullptr;
  const Candidate& candidate = paths_->candidates()[static_cast<std::size_t>(first - known->shares.begin())];
  if (!is_up() || !are_live(plan.sources) || !candidate.channel->copy_now(**first)) return nullptr;
  return check_alive().is_ok() && are_live(plan.sources) ? &candidate : nullptr;
}

bool Link::are_live(const std::vector<Handle>& sources) const {
  return std::ranges::all_of(sources, [this](const Handle& source) { return is_live(source); });
}

bool Link::memory_of(const Handle& handle, std::function<void(Result<transport::RemoteMemory>)> answer) {
  auto used = use();
  if (!used) return false;
  if (!paths_->needs_addresses()) {
    answer(transport::RemoteMemory::kOrdinary);
    return true;
  }
  resolver_->resolve(handle, weak_from_this(), [used, answer = std::move(answer)](Result<std::shared_ptr<const Resolution>> resolution) {
    if (!resolution.is_ok()) return answer(resolution.status());
    const auto& ranges = (*resolution)->ranges;
    answer(ranges.empty() ? transport::RemoteMemory::kOrdinary : (*resolution)->memory_at(ranges.front().address));
  });
  return true;
}

void Link::ask_live(const std::vector<Handle>& handles, std::function<void(Status)> answer) {
  transport::ask_live(*this, handles, std::move(answer));
}

Status Link::run(std::function<void()> work) { return context_.copy_pool.run(std::move(work)); }

void Link::request(std::function<std::vector<std::byte>(std::uint64_t id)> encode, Answer answer) {
  std::uint64_t id = 0;
  Status down;
  {
    const MutexLock lock(mutex_);
    down = state_;
    if (down.is_ok()) {
      id = next_request_++;
      waiting_.emplace(id, answer);
    }
  }
  const bool posted = context_.loop.post([self = shared_from_this(), encode = std::move(encode), id, down, answer] {
    if (!down.is_ok()) return answer(down);
    if (self->connection_) self->connection_->send(encode(id));  // otherwise go_down() answered
  });
  if (posted) return;
  const Status closed(Code::kClosed, "the engine was closed");
  if (id == 0) return answer(closed);  // it was not waiting for one
  this->answer(id, closed);
}

void Link::open_connection(control::TransportKind kind, Deadline deadline, std::function<void(Result<Fd>)> opened) {
  const bool posted = context_.loop.post([self = shared_from_this(), kind, deadline, opened] {
    if (const Status up = self->state(); !up.is_ok()) return opened(up);
    control::Hello hello;
    hello.purpose = control::Purpose::kData;
    hello.transport = kind;
    hello.client = self->context_.self;
    hello.server = self->peer_.descriptor.incarnation;
    const auto done = [opened](Result<Dialed> dialed) {
      if (!dialed.is_ok()) return opened(dialed.status());
      opened(std::move(dialed->socket));
    };
    dial(self->context_.loop, self->context_.process, self->peer_.descriptor, hello, deadline, done, Met::kBefore);
  });
  if (!posted) opened(Status(Code::kClosed, "the engine was closed"));
}

void Link::answer(std::uint64_t request, Result<transport::Reply> reply) {
  Answer answer;
  {
    const MutexLock lock(mutex_);
    const auto it = waiting_.find(request);
    if (it == waiting_.end()) return;
    answer = std::move(it->second);
    waiting_.erase(it);
  }
  answer(std::move(reply));
}

void Link::close(const Status& why) {
  {
    const MutexLock lock(mutex_);
    if (!state_.is_ok()) return;
  }
  context_.loop.post([self = shared_from_this(), why] { self->go_down(why); });
}

// Loop thread. The one end of a link, whatever the reason.
void Link::go_down(const Status& cause) {
  const Status why = cause.code() == Code::kClosed ? cause : cause.with_context("lost the " + peer_.descriptor.name());
  std::unordered_map<std::uint64_t, Answer> waiting;
  {
    const MutexLock lock(mutex_);
    if (!state_.is_ok()) return;
    state_ = why;
    up_.store(false, std::memory_order_release);
    waiting.swap(waiting_);
  }
  const auto self = shared_from_this();
  connection_.reset();
  death_.reset();
  context_.loop.cancel(std::exchange(idle_timer_, 0));
  for (const auto& [id, answer] : waiting) answer(why);
  if (paths_) {
    for (const Candidate& each : paths_->candidates()) {
      if (each.channel) each.channel->close(why);
    }
  }
  const Callbacks callbacks = std::exchange(callbacks_, {});
  if (callbacks.ready) return callbacks.ready(why);
  context_.counters.links.fetch_sub(1, std::memory_order_relaxed);
  if (why.code() != Code::kClosed) context_.counters.links_lost.fetch_add(1, std::memory_order_relaxed);
  if (callbacks.gone) callbacks.gone();
}

}  // namespace ray_hixl::link
