// staged: device memory of one side or both through host memory, to any peer. What works where HIXL cannot: to and from processes without
// an NPU, or between two that HIXL does not link. To readers of this host and user that can map it the owner lends its staging memory; to
// all others, and of host memory, the connections of stream carry it.
#include "transport/stream/transport.h"

#include <memory>
#include <utility>

#include "base/bytes.h"
#include "transport/factories.h"
#include "transport/mappings.h"
#include "transport/staged/channel.h"
#include "transport/staged/inflow.h"
#include "transport/staged/lender.h"
#include "transport/staged/outflow.h"

namespace ray_hixl::transport::staged {
namespace {

// Across, one side needs no device; which one is not said.
Status can_read(const device::Devices& devices, RemoteMemory memory) {
  if (memory == RemoteMemory::kAcross) return Status::ok();
  if (memory == RemoteMemory::kDevice) return devices.usable();
  return Status(Code::kNotAvailable, "it stages device memory; the others move host memory");
}

std::unique_ptr<Transport> over_connections(const Context& context) {
  const std::shared_ptr<device::Devices>& devices = context.devices;
  return stream::transport_of(
      context,
      {control::TransportKind::kStaged, [devices](RemoteMemory memory) { return can_read(*devices, memory); },
       [devices](std::int32_t device, stream::NextRange payload, std::shared_ptr<const void> keep, std::function<void()> more) {
         return open_outflow(devices, device, std::move(payload), std::move(keep), std::move(more));
       },
       [devices](const std::shared_ptr<Job>& job, std::function<void()> more) { return open_inflow(devices, job, std::move(more)); }});
}

// How many parts a reader may have. An owner that lends none, as those of earlier versions, says nothing.
std::vector<std::byte> describe_parts(std::uint32_t parts) {
  ByteWriter writer;
  writer.u32(parts);
  return writer.take();
}
std::uint32_t parts_of(ByteView details) {
  ByteReader reader(details);
  const std::uint32_t parts = reader.u32();
  return reader.ok() ? parts : 0;
}

class StagedTransport final : public Transport {
 public:
  explicit StagedTransport(const Context& context) : context_(context), connections_(over_connections(context)) {}

  control::TransportKind kind() const override { return control::TransportKind::kStaged; }
  bool reads_by_address() const override { return false; }
  std::vector<std::byte> describe(const ReaderView& reader) const override {
    return reader.is_same_user ? describe_parts(Lender::kMostParts) : std::vector<std::byte>();
  }

  Result<std::unique_ptr<Channel>> open(const PeerView& peer, ByteView details, Port& port) override {
    Result<std::unique_ptr<Channel>> connections = connections_->open(peer, {}, port);
    if (!connections.is_ok()) return connections;
    const std::uint32_t parts = can_map(peer).is_ok() && peer.shows_generations ? parts_of(details) : 0;
    return std::unique_ptr<Channel>(std::make_unique<StagedChannel>(context_, port, parts, *std::move(connections)));
  }

  bool serve(const control::Frame& request, Responder& responder) override {
    if (pass_segment(context_, request, responder)) return true;
    if (request.type != control::MessageType::kStage) return false;
    const Result<control::Stage> wanted = control::decode_stage(request.body);
    if (wanted.is_ok()) {
      lender_->stage(*wanted, std::move(responder));
    } else {
      std::move(responder).fail(wanted.status());
    }
    return true;
  }

  void accept(Fd connection, std::vector<std::byte> received) override { connections_->accept(std::move(connection), std::move(received)); }
  void session_ended(const ReaderView& reader) override { lender_->session_ended(reader); }
  void shut_down() override {
    lender_->shut_down();
    connections_->shut_down();
  }

 private:
  const Context& context_;
  const std::unique_ptr<Transport> connections_;
  const std::shared_ptr<Lender> lender_ = std::make_shared<Lender>(context_);  // shared with what is being copied
};

}  // namespace

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<StagedTransport>(context); }

}  // namespace ray_hixl::transport::staged
