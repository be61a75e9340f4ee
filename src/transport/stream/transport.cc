// stream: over sockets, to any host. The reader asks on a connection of its own, the owner answers straight from memory.
#include <memory>
#include <optional>
#include <utility>

#include "transport/factories.h"
#include "transport/stream/channel.h"
#include "transport/stream/serving.h"

namespace ray_hixl::transport::stream {
namespace {

const Carrier kHostMemory{control::TransportKind::kStream, nullptr, nullptr};

class StreamTransport final : public Transport {
 public:
  explicit StreamTransport(const Context& context) : context_(context), serving_(std::in_place, context, kHostMemory) {}

  control::TransportKind kind() const override { return control::TransportKind::kStream; }
  bool reads_by_address() const override { return false; }
  std::vector<std::byte> describe(const ReaderView&) const override { return {}; }

  Result<std::unique_ptr<Channel>> open(const PeerView&, ByteView, Port& port) override {
    return std::unique_ptr<Channel>(std::make_unique<StreamChannel>(context_, kHostMemory, port));
  }

  bool serve(const control::Frame&, Responder&) override { return false; }
  void accept(Fd connection, std::vector<std::byte> received) override { serving_->accept(std::move(connection), received); }
  void session_ended(const ReaderView&) override {}
  void shut_down() override { serving_.reset(); }

 private:
  const Context& context_;
  std::optional<Serving> serving_;
};

}  // namespace

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<StreamTransport>(context); }

}  // namespace ray_hixl::transport::stream
