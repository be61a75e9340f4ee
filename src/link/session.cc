#include "link/session.h"

#include <algorithm>
#include <map>
#include <utility>

#include "net/socket.h"

namespace ray_hixl::link {
namespace {

transport::ReaderView view_of(const transport::Context& context, const control::Hello& hello, const Fd& socket) {
  transport::ReaderView reader;
  reader.capabilities = hello.capabilities & control::kOwnCapabilities;
  if (!net::is_unix(socket)) return reader;
  const Result<net::PeerProcess> peer = net::peer_process(socket);
  reader.is_same_user = peer.is_ok() && peer->uid == context.process.uid;
  Result<std::shared_ptr<net::WatchedProcess>> process = context.processes.watch_peer(socket);
  if (process.is_ok()) reader.process = *std::move(process);  // else the connection tells of its end, too
  return reader;
}

// Where a slot's ranges lie, and the source segments that hold them. What is in device memory has no address for such readers.
control::Resolved resolved_of(const memory::SlotContent& content, const memory::Arena& source_arena) {
  control::Resolved resolved;
  std::map<std::uint32_t, control::RemoteSegment> segments;
  std::optional<memory::SegmentInfo> last;  // neighbours mostly lie in one segment
  resolved.ranges.reserve(content.ranges.size());
  for (const MemoryRange& range : content.ranges) {
    const auto address = range.kind != MemoryKind::kDevice ? reinterpret_cast<std::uint64_t>(range.address) : 0;
    resolved.ranges.push_back({address, range.length});
    if (address == 0) continue;
    if (range.length == 0 || (last && address >= last->base && address - last->base < last->length)) continue;
    last = source_arena.find(range.address);
    if (last) segments[last->id] = {last->id, last->base, last->length};
  }
  for (const auto& [id, segment] : segments) resolved.segments.push_back(segment);
  return resolved;
}

// The first frame of `bytes`. kInvalidArgument, too, for one that is longer than what a client has to say.
Result<std::optional<control::Frame>> next_request(ByteView bytes) {
  const std::optional<control::FrameHeader> header = control::read_header(bytes);
  if (header && header->size > control::longest_request(header->type)) {
    return Status(Code::kInvalidArgument, "a client sends no such message of " + std::to_string(header->size) + " bytes");
  }
  return control::next_frame(bytes);
}

}  // namespace

std::shared_ptr<Session> Session::start(const transport::Context& context,
                                        const std::vector<std::unique_ptr<transport::Transport>>& transports, const control::Hello& hello,
                                        Fd socket, std::function<void()> ended) {
  const std::shared_ptr<Session> session(new Session(context, transports, std::move(ended)));
  session->begin(hello, std::move(socket));
  return session;
}

Session::Session(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports,
                 std::function<void()> ended)
    : context_(context), transports_(transports), ended_(std::move(ended)) {}

Session::~Session() {
  if (!reader_) return;
  for (const auto& transport : transports_) transport->session_ended(*reader_);
}

void Session::begin(const control::Hello& hello, Fd socket) {
  reader_ = std::make_shared<const transport::ReaderView>(view_of(context_, hello, socket));
  // A dead reader is known at once even where a child of it keeps the socket open.
  if (reader_->process) death_ = reader_->process->on_death([this] { end(); });
  connection_.emplace(context_.loop, std::move(socket), control::longest_request(),
                      net::Connection::Callbacks{[this](std::span<const std::byte> bytes, const net::Arrival&) { return on_bytes(bytes); },
                                                 [this](const Status&) { end(); }, [this] { go_on(); }});
  welcome();
}

void Session::welcome() {
  control::Welcome message;
  message.pid = context_.process.pid;
  message.uid = context_.process.uid;
  for (const auto& transport : transports_) message.transports.push_back({transport->kind(), transport->describe(*reader_)});
  std::vector<Fd> fds;
  if (reader_->is_same_user) {
    Result<Fd> generations = context_.slots.generations().duplicate();
    if (generations.is_ok()) fds.push_back(*std::move(generations));
  }
  message.has_generations = !fds.empty();
  connection_->send(control::encode(0, message), std::move(fds));
}

void Session::segment_retired(std::uint32_t id) { connection_->send(control::encode(0, control::SegmentRetired{id})); }

bool Session::has_enough() const { return working_ > 0 || unanswered_ >= kMostUnanswered || connection_->queued() > kMostQueued; }

// A client that names a request and does not send it holds memory.
void Session::watch_stall() {
  stall_timer_ = context_.loop.at(Deadline::in(seconds_to_duration(context_.options.stall_timeout_s)), [weak = weak_from_this()] {
    const auto session = weak.lock();
    if (!session) return;
    session->stall_timer_ = 0;
    session->end();
  });
}

// Takes the requests that came, up to a turn's worth; what is left is shown again when reading goes on.
std::size_t Session::on_bytes(std::span<const std::byte> bytes) {
  if (stall_timer_ != 0) context_.loop.cancel(std::exchange(stall_timer_, 0));
  std::size_t used = 0;
  for (std::size_t taken = 0; taken < kRequestsATurn && !has_enough(); ++taken) {
    const Result<std::optional<control::Frame>> frame = next_request(bytes.subspan(used));
    if (!frame.is_ok()) end();
    if (!ended_) return bytes.size();
    if (!*frame) {
      if (used < bytes.size()) watch_stall();
      return used;
    }
    used += (*frame)->bytes.size();
    on_request(**frame);
  }
  if (!ended_) return bytes.size();
  paused_ = true;
  connection_->pause_reading();
  go_on();  // later, with others first
  return used;
}

void Session::go_on() {
  if (!paused_ || has_enough()) return;
  paused_ = false;
  connection_->resume_reading();
}

void Session::on_request(const control::Frame& request) {
  const bool is_known = control::is_known(request.type);
  if (request.request == 0) {
    if (is_known) end();  // nobody could tell what is answered; but what a later version has to tell is of no use here
    return;
  }
  transport::Responder responder(context_.loop, weak_from_this(), reader_, request.request);
  ++unanswered_;
  if (!is_known) return std::move(responder).fail(control::unknown_request(request.type));
  if (request.type == control::MessageType::kResolve) return resolve(request, std::move(responder));
  if (request.type == control::MessageType::kCheck) return check(request, std::move(responder));
  if (std::ranges::any_of(transports_, [&](const auto& transport) { return transport->serve(request, responder); })) return;
  std::move(responder).fail(Status(Code::kInvalidArgument, "this engine has no answer to such a request"));
}

void Session::resolve(const control::Frame& request, transport::Responder responder) {
  const Result<control::Resolve> wanted = control::decode_resolve(request.body);
  if (!wanted.is_ok()) return std::move(responder).fail(wanted.status());
  // Addresses are of use only to who may map or read this process's memory.
  if (!reader_->is_same_user) {
    return std::move(responder).fail(Status(Code::kNotAvailable, "addresses are told to processes of the same user on this host only"));
  }
  const auto content = context_.slots.pin(wanted->handle);
  if (!content.is_ok()) return std::move(responder).fail(content.status());
  const std::size_t ranges = (*content)->ranges.size();
  if (ranges > control::Resolved::kMostRanges) {
    return std::move(responder).fail(Status(Code::kNotAvailable, "the object has more tensors than one message can tell of"));
  }
  context_.counters.resolved.fetch_add(1, std::memory_order_relaxed);
  auto make = [content = *content, &arena = context_.source_arena](std::uint64_t id) -> Result<std::vector<std::byte>> {
    return control::encode(id, resolved_of(*content, arena));
  };
  std::move(responder).answer(context_.copy_pool, ranges, std::move(make));
}

void Session::work_began() { ++working_; }

void Session::answered(transport::FrameParts frame, std::vector<Fd> fds, bool worked) {
  --unanswered_;
  if (worked) --working_;
  for (auto& part : frame) connection_->send(std::move(part), std::exchange(fds, {}));
  go_on();
}

// For readers who cannot see the generations.
void Session::check(const control::Frame& request, transport::Responder responder) {
  Result<control::Check> asked = control::decode_check(request.body);
  if (!asked.is_ok()) return std::move(responder).fail(asked.status());
  const std::size_t handles = asked->handles.size();
  auto make = [&slots = context_.slots, asked = *std::move(asked)](std::uint64_t id) -> Result<std::vector<std::byte>> {
    for (const Handle& handle : asked.handles) {
      if (const auto content = slots.pin(handle); !content.is_ok()) return content.status();
    }
    return control::encode(id, control::Checked{});
  };
  std::move(responder).answer(context_.copy_pool, handles, std::move(make));
}

// Its owner destroys it, so from the loop: the connection may be in use up the stack.
void Session::end() {
  if (!ended_) return;
  connection_->close();
  context_.loop.post(std::exchange(ended_, nullptr));
}

}  // namespace ray_hixl::link
