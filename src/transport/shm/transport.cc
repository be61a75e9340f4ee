// shm: maps the source segments of a process of this host and user, and copies out of them.
#include <utility>

#include "transport/factories.h"
#include "transport/mappings.h"
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
    RAY_HIXL_RETURN_IF_ERROR(can_map(peer));
    return std::unique_ptr<Channel>(std::make_unique<ShmChannel>(context_, port));
  }

  bool serve(const control::Frame& request, Responder& responder) override { return pass_segment(context_, request, responder); }

  void accept(Fd, std::vector<std::byte>) override {}  // shm needs no connection of its own: hangs up
  void session_ended(const ReaderView&) override {}
  void shut_down() override {}

 private:
  const Context& context_;
};

}  // namespace

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<ShmTransport>(context); }

}  // namespace ray_hixl::transport::shm
