// stream: over sockets, to any host. The reader asks on a connection of its own, the owner answers straight from memory.
#include "transport/stream/transport.h"

#include <memory>
#include <optional>
#include <utility>

#include "transport/factories.h"
#include "transport/stream/channel.h"
#include "transport/stream/serving.h"

namespace ray_hixl::transport::stream {
namespace {

class StreamTransport final : public Transport {
 public:
  StreamTransport(const Context& context, Carrier carrier)
      : context_(context), carrier_(std::move(carrier)), serving_(std::in_place, context, carrier_) {}

  control::TransportKind kind() const override { return carrier_.kind; }
  bool reads_by_address() const override { return false; }
  std::vector<std::byte> describe(const ReaderView&) const override { return {}; }

  Result<std::unique_ptr<Channel>> open(const PeerView&, ByteView, Port& port) override {
    return std::unique_ptr<Channel>(std::make_unique<StreamChannel>(context_, carrier_, port));
  }

  bool serve(const control::Frame&, Responder&) override { return false; }
  void accept(Fd connection, std::vector<std::byte> received) override { serving_->accept(std::move(connection), received); }
  void session_ended(const ReaderView&) override {}
  void shut_down() override { serving_.reset(); }

 private:
  const Context& context_;
  const Carrier carrier_;
  std::optional<Serving> serving_;
};

}  // namespace

std::unique_ptr<Transport> transport_of(const Context& context, Carrier carrier) {
  return std::make_unique<StreamTransport>(context, std::move(carrier));
}

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) {
  const auto can_read = [](RemoteMemory memory) { return is_host(memory) ? Status::ok() : host_memory_only(); };
  return transport_of(context, {control::TransportKind::kStream, can_read, nullptr, nullptr});
}

}  // namespace ray_hixl::transport::stream
