// shm: maps the source segments of a process of this host and user, and copies out of them.
#include <sys/stat.h>

#include <utility>

#include "transport/factories.h"
#include "transport/shm/channel.h"

namespace ray_hixl::transport::shm {
namespace {

class ShmTransport final : public Transport {
 public:
  explicit ShmTransport(const Context& context) : context_(context) {}

  control::TransportKind kind() const override { return control::TransportKind::kShm; }
  bool reads_by_address() const override { return true; }
  std::vector<std::byte> describe(const ReaderView&) const override { return {}; }

  Result<std::unique_ptr<Channel>> open(const PeerView& peer, ByteView, Port& port) override {
    if (!peer.same_host) return Status(Code::kNotAvailable, "the peer is on another host");
    if (!peer.over_unix_socket)
      return Status(Code::kNotAvailable, "segments are passed over a Unix socket, and the peer's cannot be reached");
    if (!peer.same_uid) return Status(Code::kNotAvailable, "the peer runs as another user");
    return std::unique_ptr<Channel>(std::make_unique<ShmChannel>(context_, port));
  }

  bool serve(const control::Frame& request, Responder& responder) override {
    if (request.type != control::MessageType::kMapSegment) return false;
    const Result<control::MapSegment> wanted = control::decode_map_segment(request.body);
    if (!wanted.is_ok()) {
      std::move(responder).fail(wanted.status());
    } else if (!responder.reader().is_same_user) {
      std::move(responder).fail(Status(Code::kNotAvailable, "segments are passed to processes of the same user on this host only"));
    } else {
      pass(wanted->id, responder);
    }
    return true;
  }

  void accept(Fd, std::vector<std::byte>) override {}  // shm needs no connection of its own: hangs up
  void session_ended(const ReaderView&) override {}
  void shut_down() override {}

 private:
  void pass(std::uint32_t id, Responder& responder) {
    Result<Fd> segment = context_.source_arena.segment_fd(id);
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

  const Context& context_;
};

}  // namespace

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<ShmTransport>(context); }

}  // namespace ray_hixl::transport::shm
