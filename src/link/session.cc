#include "link/session.h"

#include <algorithm>
#include <map>
#include <utility>

#include "net/socket.h"

namespace ray_hixl::link {
namespace {

bool is_own_uid(const Fd& socket, std::uint32_t uid) {
  if (!net::is_unix(socket)) return false;
  const Result<net::PeerProcess> peer = net::peer_process(socket);
  return peer.is_ok() && peer->uid == uid;
}

// Where a slot's ranges lie, and the source segments that hold them. What is in device memory has no address for such readers.
control::Resolved locate(const memory::SlotContent& content, const memory::Arena& source_arena) {
  control::Resolved resolved;
  std::map<std::uint32_t, control::RemoteSegment> segments;
  std::optional<memory::SegmentInfo> last;  // neighbours mostly lie in one segment
  resolved.ranges.reserve(content.ranges.size());
  for (const MemoryRange& range : content.ranges) {
    const auto address = range.kind == MemoryKind::kHost ? reinterpret_cast<std::uint64_t>(range.address) : 0;
    resolved.ranges.push_back({address, range.length});
    if (address == 0) continue;
    if (range.length == 0 || (last && address >= last->base && address - last->base < last->length)) continue;
    last = source_arena.find(range.address);
    if (last) segments[last->id] = {last->id, last->base, last->length};
  }
  for (const auto& [id, segment] : segments) resolved.segments.push_back(segment);
  return resolved;
}

}  // namespace

Session::~Session() {
  for (const auto& transport : transports_) transport->session_ended(*this);
}

Session::Session(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports, Fd socket,
                 std::function<void()> ended)
    : context_(context),
      transports_(transports),
      may_pass_fds_(is_own_uid(socket, context.process.uid)),
      ended_(std::move(ended)),
      connection_(context.loop, std::move(socket), control::kLongestFrame,
                  {[this](std::span<const std::byte> bytes, const net::Arrival&) { return on_bytes(bytes); },
                   [this](const Status&) { end(); }, nullptr}) {
  welcome();
}

void Session::welcome() {
  control::Welcome message;
  message.pid = context_.process.pid;
  message.uid = context_.process.uid;
  for (const auto& transport : transports_) message.transports.push_back({transport->kind(), transport->describe()});
  std::vector<Fd> fds;
  if (may_pass_fds_) {
    Result<Fd> generations = context_.slots.generations().duplicate();
    if (generations.is_ok()) fds.push_back(*std::move(generations));
  }
  message.has_generations = !fds.empty();
  send(control::encode(0, message), std::move(fds));
}

void Session::send(std::vector<std::byte> frame, std::vector<Fd> fds) { connection_.send(std::move(frame), std::move(fds)); }

void Session::segment_retired(std::uint32_t id) { send(control::encode(0, control::SegmentRetired{id}), {}); }

std::size_t Session::on_bytes(std::span<const std::byte> bytes) {
  std::size_t used = 0;
  while (true) {
    const Result<std::optional<control::Frame>> frame = control::next_frame(bytes.subspan(used));
    if (!frame.is_ok()) {
      end();
      return bytes.size();
    }
    if (!*frame) return used;
    used += (*frame)->size;
    on_request(**frame);
  }
}

// A request of a later version is answered like any other that cannot be met, and what it wants to tell is of no use here.
void Session::on_unknown(const control::Frame& frame) {
  if (frame.request == 0) return;
  send(control::encode(frame.request, control::Failure{control::unknown_request(frame.type)}), {});
}

void Session::on_request(const control::Frame& request) {
  if (!control::is_known(request.type)) return on_unknown(request);
  if (request.request == 0) return end();  // nobody could tell what is answered
  if (request.type == control::MessageType::kResolve) return resolve(request);
  if (request.type == control::MessageType::kCheck) return check(request);
  const bool served = std::ranges::any_of(transports_, [&](const auto& transport) { return transport->serve(request, *this); });
  if (served) return;
  send(control::encode(request.request, control::Failure{Status(Code::kInvalidArgument, "this engine has no answer to such a request")}),
       {});
}

void Session::resolve(const control::Frame& request) {
  const auto refuse = [&](const Status& why) { send(control::encode(request.request, control::Failure{why}), {}); };
  const Result<control::Resolve> wanted = control::decode_resolve(request.body);
  if (!wanted.is_ok()) return refuse(wanted.status());
  // Addresses are of use only to who may map or read this process's memory.
  if (!may_pass_fds_) return refuse(Status(Code::kNotAvailable, "addresses are told to processes of the same user on this host only"));
  const auto content = context_.slots.pin(wanted->handle);
  if (!content.is_ok()) return refuse(content.status());
  control::Resolved resolved = locate(**content, context_.source_arena);
  if (resolved.ranges.size() > control::Resolved::kMostRanges) {
    return refuse(Status(Code::kNotAvailable, "the object has more tensors than one message can tell of"));
  }
  context_.counters.resolved.fetch_add(1, std::memory_order_relaxed);
  send(control::encode(request.request, resolved), {});
}

// For readers who cannot see the generations.
void Session::check(const control::Frame& request) {
  const Result<control::Check> asked = control::decode_check(request.body);
  Status live = asked.status();
  for (std::size_t i = 0; live.is_ok() && i < asked->handles.size(); ++i) live = context_.slots.pin(asked->handles[i]).status();
  send(live.is_ok() ? control::encode(request.request, control::Checked{}) : control::encode(request.request, control::Failure{live}), {});
}

// Its owner destroys it, so from the loop: the connection may be in use up the stack.
void Session::end() {
  if (!ended_) return;
  connection_.close();
  context_.loop.post(std::exchange(ended_, nullptr));
}

}  // namespace ray_hixl::link
