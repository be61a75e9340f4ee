// staged: device memory of one side or both through pinned host buffers and the connections of stream, to any peer. What works where HIXL
// cannot: to and from processes without an NPU, or between two that HIXL does not link.
#include <memory>
#include <optional>
#include <utility>

#include "transport/factories.h"
#include "transport/staged/inflow.h"
#include "transport/staged/outflow.h"
#include "transport/stream/channel.h"
#include "transport/stream/serving.h"

namespace ray_hixl::transport::staged {
namespace {

stream::Carrier carrier_over(const std::shared_ptr<device::Devices>& devices) {
  return {control::TransportKind::kStaged,
          [devices](std::int32_t device, stream::NextRange payload, std::shared_ptr<const void> keep, std::function<void()> more) {
            return open_outflow(devices, device, std::move(payload), std::move(keep), std::move(more));
          },
          [devices](const std::shared_ptr<Job>& job, std::function<void()> more) { return open_inflow(devices, job, std::move(more)); }};
}

class StagedChannel final : public stream::StreamChannel {
 public:
  StagedChannel(const Context& context, const stream::Carrier& carrier, Port& port)
      : StreamChannel(context, carrier, port), devices_(*context.devices) {}

  // Across, one side needs no device; which one is not said.
  Status can_read(RemoteMemory memory) const override {
    if (memory == RemoteMemory::kAcross) return Status::ok();
    if (memory == RemoteMemory::kDevice) return devices_.usable();
    return Status(Code::kNotAvailable, "it stages device memory; the others move host memory");
  }

 private:
  const device::Devices& devices_;
};

class StagedTransport final : public Transport {
 public:
  explicit StagedTransport(const Context& context)
      : context_(context), carrier_(carrier_over(context.devices)), serving_(std::in_place, context, carrier_) {}

  control::TransportKind kind() const override { return control::TransportKind::kStaged; }
  bool reads_by_address() const override { return false; }
  std::vector<std::byte> describe(const ReaderView&) const override { return {}; }

  Result<std::unique_ptr<Channel>> open(const PeerView&, ByteView, Port& port) override {
    return std::unique_ptr<Channel>(std::make_unique<StagedChannel>(context_, carrier_, port));
  }

  bool serve(const control::Frame&, Responder&) override { return false; }
  void accept(Fd connection, std::vector<std::byte> received) override { serving_->accept(std::move(connection), received); }
  void session_ended(const ReaderView&) override {}
  void shut_down() override { serving_.reset(); }

 private:
  const Context& context_;
  const stream::Carrier carrier_;
  std::optional<stream::Serving> serving_;
};

}  // namespace

Status probe() { return Status::ok(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<StagedTransport>(context); }

}  // namespace ray_hixl::transport::staged
