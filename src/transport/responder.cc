#include "transport/responder.h"

#include <algorithm>
#include <utility>

#include "control/messages.h"

namespace ray_hixl::transport {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

std::vector<std::byte> failure(std::uint64_t request, const Status& why) { return control::encode(request, control::Failure{why}); }

std::vector<std::byte> made_by(const Responder::Make& make, std::uint64_t request) {
  Result<std::vector<std::byte>> made = make(request);
  return made.is_ok() ? *std::move(made) : failure(request, made.status());
}

FrameParts whole(std::vector<std::byte> frame) {
  FrameParts parts;
  parts.push_back(std::move(frame));
  return parts;
}

// Memory that takes long to give back goes back in small steps, where it is sent.
FrameParts split(std::vector<std::byte> frame) {
  if (frame.size() <= kCopyBytes) return whole(std::move(frame));
  FrameParts parts;
  for (auto from = frame.begin(); from != frame.end();) {
    const auto to = from + static_cast<std::ptrdiff_t>(std::min<std::size_t>(kCopyBytes, static_cast<std::size_t>(frame.end() - from)));
    parts.emplace_back(from, to);
    from = to;
  }
  return parts;
}

}  // namespace

Responder::Responder(net::Loop& loop, std::weak_ptr<Answerable> session, std::shared_ptr<const ReaderView> reader, std::uint64_t request)
    : loop_(&loop), session_(std::move(session)), reader_(std::move(reader)), request_(request) {}

Responder::~Responder() {
  if (reader_) std::move(*this).fail(Status(Code::kInternal, "the request was dropped without an answer"));
}

void Responder::send(std::vector<std::byte> frame, std::vector<Fd> fds) && { deliver(whole(std::move(frame)), std::move(fds)); }

void Responder::fail(const Status& why) && { deliver(whole(failure(request_, why)), {}); }

void Responder::answer(memory::CopyPool& pool, std::size_t parts, Make make) && {
  if (parts <= kMostInline) return deliver(whole(made_by(make, request_)), {});
  if (const auto session = session_.lock()) {
    worked_ = true;
    session->work_began();
  }
  const auto self = std::make_shared<Responder>(std::move(*this));  // a task must be copyable, and a responder is not
  const Status taken = pool.run([self, made = std::move(make)]() mutable {
    FrameParts parts_of_frame = split(made_by(made, self->request_));
    made = nullptr;  // what it holds may take long to let go of
    self->deliver(std::move(parts_of_frame), {});
  });
  if (!taken.is_ok()) std::move(*self).fail(taken);
}

void Responder::deliver(FrameParts frame, std::vector<Fd> fds) {
  reader_.reset();
  if (loop_->on_loop()) {
    if (const auto session = session_.lock()) session->answered(std::move(frame), std::move(fds), worked_);
    return;
  }
  // A task must be copyable, and descriptors are not. The session is looked up on the loop, where it may end.
  struct Delivery {
    FrameParts frame;
    std::vector<Fd> fds;
  };
  const auto delivery = std::make_shared<Delivery>(Delivery{std::move(frame), std::move(fds)});
  loop_->post([session = std::move(session_), delivery, worked = worked_] {
    if (const auto alive = session.lock()) alive->answered(std::move(delivery->frame), std::move(delivery->fds), worked);
  });
}

}  // namespace ray_hixl::transport
