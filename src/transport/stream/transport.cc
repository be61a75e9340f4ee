// stream: over sockets, to any host. The reader asks on a connection of its own, the owner answers straight from memory.
#include <list>
#include <memory>
#include <utility>

#include "net/socket.h"
#include "transport/factories.h"
#include "transport/stream/channel.h"
#include "transport/stream/sender.h"

namespace ray_hixl::transport::stream {
namespace {

class StreamTransport final : public Transport {
 public:
  explicit StreamTransport(const Context& context) : context_(context) {}

  control::TransportKind kind() const override { return control::TransportKind::kStream; }
  bool reads_by_address() const override { return false; }
  std::vector<std::byte> describe(const ReaderView&) const override { return {}; }

  Result<std::unique_ptr<Channel>> open(const PeerView&, ByteView, Port& port) override {
    return std::unique_ptr<Channel>(std::make_unique<StreamChannel>(context_, port));
  }

  bool serve(const control::Frame&, Responder&) override { return false; }

  void accept(Fd connection, std::vector<std::byte> received) override {
    if (!net::is_unix(connection)) (void)net::set_dead_peer_timeout(connection, context_.options.stall_timeout_s);
    Serving& serving = *serving_;
    if (serving.senders.empty()) serving.copy.open();
    serving.senders.emplace_front();
    const auto place = serving.senders.begin();
    *place = std::make_unique<Sender>(context_, serving.copy, std::move(connection), received, [weak = std::weak_ptr(serving_), place] {
      const auto still = weak.lock();
      if (!still) return;
      still->senders.erase(place);
      if (still->senders.empty()) still->copy.close();
    });
    (*place)->start();
  }

  void session_ended(const ReaderView&) override {}
  void shut_down() override { serving_.reset(); }

 private:
  // Loop thread only.
  struct Serving {
    CheckedCopy copy;  // has descriptors while there are senders
    std::list<std::unique_ptr<Sender>> senders;
  };
  const Context& context_;
  std::shared_ptr<Serving> serving_ = std::make_shared<Serving>();
};

}  // namespace

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<StreamTransport>(context); }

}  // namespace ray_hixl::transport::stream
