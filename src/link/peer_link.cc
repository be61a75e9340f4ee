#include "link/peer_link.h"

#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "net/socket.h"
#include "transport/liveness.h"

namespace ray_hixl::link {
namespace {

Status no_room_for_descriptors() {
  return Status(Code::kNotAvailable, "the peer passed a file descriptor, but this process has as many as it may have: raise `ulimit -n`");
}

}  // namespace

std::shared_ptr<PeerLink> PeerLink::start(const transport::Context& context,
                                          const std::vector<std::unique_ptr<transport::Transport>>& transports,
                                          const control::EngineDescriptor& peer, Dialed dialed, Ready ready, Gone gone) {
  auto link = std::make_shared<PeerLink>(context, transports, peer);
  link->ready_ = std::move(ready);
  link->gone_ = std::move(gone);
  link->listen(std::move(dialed));
  return link;
}

PeerLink::PeerLink(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports,
                   const control::EngineDescriptor& peer)
    : context_(context), transports_(transports) {
  peer_.descriptor = peer;
}

void PeerLink::listen(Dialed dialed) {
  const bool same_host = peer_.descriptor.boot_id == context_.process.boot_id;
  peer_.same_host = same_host;
  peer_.same_pid_namespace = same_host && peer_.descriptor.pid_namespace == context_.process.pid_namespace;
  peer_.over_unix_socket = dialed.over_unix_socket;
  no_unix_socket_ = std::move(dialed.no_unix_socket);
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

std::size_t PeerLink::on_bytes(std::span<const std::byte> bytes, net::Arrival arrival) {
  Status status = frames_.arrived(bytes, arrival.fresh, std::move(arrival.fds), arrival.fds_lost);
  bool is_last = false;
  while (status.is_ok() && connection_ && !is_last) status = on_next_frame(is_last);
  if (!status.is_ok()) go_down(Status(Code::kPeerGone, status.message()));
  return frames_.consumed();
}

Status PeerLink::on_next_frame(bool& is_last) {
  Result<std::optional<control::FrameReader::Received>> received = frames_.next();
  if (!received.is_ok()) return received.status();
  is_last = !received->has_value();
  return is_last ? Status::ok() : on_frame(**std::move(received));
}

Status PeerLink::on_frame(control::FrameReader::Received received) {
  const control::Frame& frame = received.frame;
  if (frame.type == control::MessageType::kWelcome && frame.request == 0) return on_welcome(received);
  if (!paths_) return Status(Code::kInvalidArgument, "the peer spoke before its welcome");
  return frame.request == 0 ? on_notice(frame) : on_answer(std::move(received));
}

// A notice that this version does not know is from a later one, and of no use here.
Status PeerLink::on_notice(const control::Frame& notice) {
  if (!control::is_known(notice.type)) return Status::ok();
  for (const Candidate& each : paths_->candidates()) {
    if (each.channel) each.channel->on_notice(notice);
  }
  return Status::ok();
}

Status PeerLink::on_answer(control::FrameReader::Received received) {
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
    answer(frame.request, transport::Reply{frame.type, {frame.body.begin(), frame.body.end()}, std::move(received.descriptors)});
  }
  return Status::ok();
}

Status PeerLink::on_welcome(const control::FrameReader::Received& received) {
  Result<control::Welcome> welcome = control::decode_welcome(received.frame.body);
  if (!welcome.is_ok()) return welcome.status();
  if (paths_) return Status(Code::kInvalidArgument, "the peer sent a second welcome");
  peer_.welcome = *std::move(welcome);
  if (received.descriptors_lost) return no_room_for_descriptors();
  if (peer_.welcome.has_generations) {
    if (received.descriptors.empty()) return Status(Code::kInvalidArgument, "the peer's welcome came without its generation table");
    auto view = memory::GenerationView::map(received.descriptors.front());
    if (!view.is_ok()) return view.status();
    generations_ = *std::move(view);
    peer_.shows_generations = true;
  }
  RAY_HIXL_RETURN_IF_ERROR(watch_process());
  choose_channels();
  context_.counters.links.fetch_add(1, std::memory_order_relaxed);
  std::exchange(ready_, nullptr)(Status::ok());
  return Status::ok();
}

// A dead process is known at once even where a child of it keeps the socket open. Not ok if it is dead already.
Status PeerLink::watch_process() {
  if (!peer_.same_pid_namespace || peer_.welcome.pid == context_.process.pid) return Status::ok();
  Result<net::ProcessWatch> process = net::ProcessWatch::open(peer_.welcome.pid);
  if (process.status().code() == Code::kPeerGone) return process.status();
  if (!process.is_ok()) return Status::ok();  // the connection tells of its end, too
  process_ = *std::move(process);
  const Status watched = context_.loop.watch(process_->fd(), EPOLLIN, [weak = weak_from_this()](std::uint32_t) {
    if (const auto link = weak.lock()) link->go_down(Status(Code::kPeerGone, "its process ended"));
  });
  if (!watched.is_ok()) process_.reset();
  return Status::ok();
}

void PeerLink::choose_channels() {
  std::vector<Candidate> candidates;
  for (const auto& transport : transports_) candidates.push_back(candidate(*transport));
  paths_.emplace(std::move(candidates));
  for (const auto memory : {transport::RemoteMemory::kOrdinary, transport::RemoteMemory::kSourceArena}) {
    chosen_[static_cast<std::size_t>(memory)] = paths_->choose(memory);
  }
}

Candidate PeerLink::candidate(transport::Transport& transport) {
  Candidate made;
  made.kind = transport.kind();
  made.reads_by_address = transport.reads_by_address();
  const auto offered = std::ranges::find(peer_.welcome.transports, transport.kind(), &control::TransportInfo::kind);
  if (offered == peer_.welcome.transports.end()) {
    made.refused = "the peer runs without it (its Options.transports, or what its machine can do)";
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

const Candidate* PeerLink::choose(transport::RemoteMemory memory) const {
  if (memory == transport::RemoteMemory::kDevice) return paths_->choose(memory);
  return chosen_[static_cast<std::size_t>(memory)];
}

Status PeerLink::no_path(transport::RemoteMemory memory) const {
  std::string reasons;
  for (const auto& [transport, why] : paths_->refused(memory)) reasons += (reasons.empty() ? "" : "; ") + transport + ": " + why;
  return Status(Code::kNotAvailable, "no transport can read from the " + peer_.descriptor.name() + " (" + reasons +
                                         "). Allow another one in Options.transports");
}

Status PeerLink::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

Status PeerLink::check_alive() const {
  RAY_HIXL_RETURN_IF_ERROR(state());
  if (!process_ || process_->alive()) return Status::ok();
  return Status(Code::kPeerGone, "the process of the " + peer_.descriptor.name() + " ended");
}

void PeerLink::submit(std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state) {
  Flight::start(shared_from_this(), std::move(plan), std::move(state));
}

void PeerLink::locate(const Handle& handle, Deadline, std::function<void(Result<transport::RemoteMemory>)> answer) {
  if (!paths_->needs_addresses()) return answer(transport::RemoteMemory::kOrdinary);
  resolver_.resolve(handle, weak_from_this(), [answer = std::move(answer)](Result<std::shared_ptr<const Resolution>> resolution) {
    if (!resolution.is_ok()) return answer(resolution.status());
    const auto& ranges = (*resolution)->ranges;
    answer(ranges.empty() ? transport::RemoteMemory::kOrdinary : (*resolution)->memory_at(ranges.front().address));
  });
}

void PeerLink::ask_live(const std::vector<Handle>& handles, std::function<void(Status)> answer) {
  transport::ask_live(*this, handles, std::move(answer));
}

Status PeerLink::run(std::function<void()> work) { return context_.copy_pool.run(std::move(work)); }

void PeerLink::request(std::function<std::vector<std::byte>(std::uint64_t id)> encode, Answer answer) {
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
  if (!posted) this->answer(id, Status(Code::kClosed, "the engine was closed"));
}

void PeerLink::open_connection(control::TransportKind kind, Deadline deadline, std::function<void(Result<Fd>)> opened) {
  const bool posted = context_.loop.post([self = shared_from_this(), kind, deadline, opened] {
    if (const Status up = self->state(); !up.is_ok()) return opened(up);
    control::Hello hello;
    hello.purpose = control::Purpose::kData;
    hello.transport = kind;
    hello.client = self->context_.self;
    hello.server = self->peer_.descriptor.incarnation;
    dial(self->context_.loop, self->context_.process, self->peer_.descriptor, hello, deadline, [opened](Result<Dialed> dialed) {
      if (!dialed.is_ok()) return opened(dialed.status());
      opened(std::move(dialed->socket));
    });
  });
  if (!posted) opened(Status(Code::kClosed, "the engine was closed"));
}

void PeerLink::answer(std::uint64_t request, Result<transport::Reply> reply) {
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

void PeerLink::close(const Status& why) {
  {
    const MutexLock lock(mutex_);
    if (!state_.is_ok()) return;
  }
  context_.loop.post([self = shared_from_this(), why] { self->go_down(why); });
}

// Loop thread. The one end of a link, whatever the reason.
void PeerLink::go_down(const Status& cause) {
  const Status why = cause.code() == Code::kClosed ? cause : cause.with_context("lost the " + peer_.descriptor.name());
  std::unordered_map<std::uint64_t, Answer> waiting;
  {
    const MutexLock lock(mutex_);
    if (!state_.is_ok()) return;
    state_ = why;
    waiting.swap(waiting_);
  }
  const auto self = shared_from_this();
  connection_.reset();
  if (process_) context_.loop.unwatch(process_->fd());
  for (const auto& [id, answer] : waiting) answer(why);
  if (paths_) {
    for (const Candidate& each : paths_->candidates()) {
      if (each.channel) each.channel->close(why);
    }
  }
  if (ready_) return std::exchange(ready_, nullptr)(why);
  context_.counters.links.fetch_sub(1, std::memory_order_relaxed);
  if (why.code() != Code::kClosed) context_.counters.links_lost.fetch_add(1, std::memory_order_relaxed);
  if (gone_) std::exchange(gone_, nullptr)();
}

}  // namespace ray_hixl::link
