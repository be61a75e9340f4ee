#include "transport/mappings.h"

#include <sys/stat.h>

#include <utility>

#include "control/messages.h"

namespace ray_hixl::transport {
namespace {

void pass(const memory::Arena& arena, std::uint32_t id, Responder responder) {
  Result<Fd> segment = arena.segment_fd(id);
  if (!segment.is_ok()) return std::move(responder).fail(segment.status());
  struct stat info {};
  if (::fstat(segment->get(), &info) != 0) {
    return std::move(responder).fail(errno_status(Code::kInternal, "cannot look at a source segment"));
  }
  std::vector<Fd> fds;
  fds.push_back(*std::move(segment));
  auto frame = control::encode(responder.request(), control::Segment{static_cast<std::uint64_t>(info.st_size)});
  std::move(responder).send(std::move(frame), std::move(fds));
}

}  // namespace

Status can_map(const PeerView& peer) {
  if (!peer.same_host) return Status(Code::kNotAvailable, "the peer is on another host");
  if (!peer.over_unix_socket) {
    return Status(Code::kNotAvailable, "segments are passed over a Unix socket, and the peer's cannot be reached");
  }
  if (!peer.same_uid) return Status(Code::kNotAvailable, "the peer runs as another user");
  return Status::ok();
}

bool pass_segment(const Context& context, const control::Frame& request, Responder& responder) {
  if (request.type != control::MessageType::kMapSegment) return false;
  const Result<control::MapSegment> wanted = control::decode_map_segment(request.body);
  if (!wanted.is_ok()) {
    std::move(responder).fail(wanted.status());
  } else if (!responder.reader().is_same_user) {
    std::move(responder).fail(Status(Code::kNotAvailable, "segments are passed to processes of the same user on this host only"));
  } else {
    pass(context.source_arena, wanted->id, std::move(responder));
  }
  return true;
}

View Mappings::find(std::uint32_t segment) {
  const MutexLock lock(mutex_);
  const auto it = mapped_.find(segment);
  return it == mapped_.end() ? nullptr : it->second;
}

void Mappings::get(std::uint32_t segment, Answer answer) {
  View known;
  {
    const MutexLock lock(mutex_);
    if (const auto it = mapped_.find(segment); it != mapped_.end()) {
      known = it->second;
    } else {
      std::vector<Answer>& waiting = coming_[segment].waiting;
      waiting.push_back(answer);
      if (waiting.size() > 1) return;  // asked for already
    }
  }
  if (known) return answer(std::move(known));
  port_.request([segment](std::uint64_t request) { return control::encode(request, control::MapSegment{segment}); },
                [self = shared_from_this(), segment](Result<Reply> reply) { self->replied(segment, std::move(reply)); });
}

void Mappings::replied(std::uint32_t segment, Result<Reply> reply) {
  if (!reply.is_ok()) return arrived(segment, reply.status());
  const Result<control::Segment> described = control::decode_segment(reply->body());
  if (reply->type != control::MessageType::kSegment || reply->fds.size() != 1 || !described.is_ok()) {
    return arrived(segment, Status(Code::kInternal, "the peer gave no segment when asked for one"));
  }
  const auto fd = std::make_shared<const Fd>(std::move(reply->fds.front()));
  const Status taken = pool_.run([self = shared_from_this(), segment, fd, length = described->length] {
    Result<View> view = memory::SegmentView::map(*fd, length);
    self->arrived(segment, view.is_ok() ? Result<View>(self->reaper_.off_loop(*std::move(view))) : std::move(view));
  });
  if (!taken.is_ok()) arrived(segment, taken);
}

void Mappings::arrived(std::uint32_t segment, const Result<View>& view) {
  Coming coming;
  {
    const MutexLock lock(mutex_);
    coming = std::move(coming_.extract(segment).mapped());
    if (view.is_ok() && !coming.forgotten) mapped_[segment] = *view;
  }
  for (const Answer& answer : coming.waiting) answer(view);
}

void Mappings::forget(std::uint32_t segment) {
  View dropped;  // unmapped after the lock
  const MutexLock lock(mutex_);
  if (const auto it = coming_.find(segment); it != coming_.end()) it->second.forgotten = true;
  if (auto node = mapped_.extract(segment)) dropped = std::move(node.mapped());
}

void Mappings::forget_all() {
  std::map<std::uint32_t, View> dropped;  // unmapped after the lock
  const MutexLock lock(mutex_);
  for (auto& [segment, coming] : coming_) coming.forgotten = true;
  dropped.swap(mapped_);
}

}  // namespace ray_hixl::transport
