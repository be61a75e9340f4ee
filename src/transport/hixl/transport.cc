// hixl: device memory through HIXL, CANN's one-sided library. The reader connects and reads; the owner takes no part but to say where its
// memory lies. Between two engines of one process the runtime copies, since HIXL does not link an engine to its own process's.
#include <map>
#include <set>
#include <utility>

#include "transport/factories.h"
#include "transport/hixl/cann.h"
#include "transport/hixl/channel.h"
#include "transport/hixl/devices.h"
#include "transport/hixl/start.h"

namespace ray_hixl::transport::hixl {
namespace {

// The parts of a slot in device memory, as peers have to know them.
Result<control::Located> locate(const memory::SlotContent& content, const Devices& devices) {
  control::Located located;
  std::uint64_t offset = 0;
  for (const MemoryRange& range : content.ranges) {
    const std::uint64_t start = std::exchange(offset, offset + range.length);
    if (range.kind != MemoryKind::kDevice || range.length == 0) continue;
    const auto device = devices.find(range.device);
    const auto epoch = device ? device->registry().epoch_of(range.address, range.length) : std::nullopt;
    if (!epoch) return Status(Code::kInvalidRegion, "the device memory is not registered any more");
    located.ranges.push_back(
        {start, range.length, static_cast<std::uint32_t>(range.device), *epoch, reinterpret_cast<std::uint64_t>(range.address)});
  }
  if (located.ranges.size() > control::Located::kMostRanges) {
    return Status(Code::kNotAvailable, "the region has more parts than one message can tell of");
  }
  return located;
}

class HixlTransport final : public Transport {
 public:
  explicit HixlTransport(const Context& context) : context_(context), devices_(context.devices) {}

  control::TransportKind kind() const override { return control::TransportKind::kHixl; }
  bool reads_by_address() const override { return false; }
  std::vector<std::byte> describe() const override { return {}; }

  Result<std::unique_ptr<Channel>> open(const PeerView& peer, ByteView, Port& port) override {
    return std::unique_ptr<Channel>(std::make_unique<HixlChannel>(context_, devices_, peer, port));
  }

  bool serve(const control::Frame& request, SessionPort& port) override {
    switch (request.type) {
      case control::MessageType::kLocate: answer(request, port, &HixlTransport::located); return true;
      case control::MessageType::kDescribeDevice: answer(request, port, &HixlTransport::described); return true;
      default: return false;
    }
  }

  void accept(Fd, std::vector<std::byte>) override {}  // hixl needs no connection of its own: hangs up

  void session_ended(const SessionPort& port) override {
    const auto found = readers_.extract(&port);
    if (found.empty()) return;
    for (const std::int32_t index : found.mapped()) {
      if (const auto device = devices_->find(index)) device->reader_went();
    }
  }

  void shut_down() override {}

 private:
  using Frame = std::vector<std::byte>;
  using Answer = Result<Frame> (HixlTransport::*)(const control::Frame& request, const SessionPort& port);

  void answer(const control::Frame& request, SessionPort& port, Answer make) {
    Result<Frame> frame = (this->*make)(request, port);
    port.send(frame.is_ok() ? *std::move(frame) : control::encode(request.request, control::Failure{frame.status()}), {});
  }

  Result<Frame> located(const control::Frame& request, const SessionPort&) {
    const Result<control::Locate> wanted = control::decode_locate(request.body);
    if (!wanted.is_ok()) return wanted.status();
    const auto content = context_.slots.pin(wanted->handle);
    if (!content.is_ok()) return content.status();
    const Result<control::Located> found = locate(**content, *devices_);
    if (!found.is_ok()) return found.status();
    return control::encode(request.request, *found);
  }

  Result<Frame> described(const control::Frame& request, const SessionPort& port) {
    const Result<control::DescribeDevice> wanted = control::decode_describe_device(request.body);
    if (!wanted.is_ok()) return wanted.status();
    const auto index = static_cast<std::int32_t>(wanted->device);
    const auto device = devices_->find(index);
    if (!device) return Status(Code::kInvalidRegion, "nothing is registered on npu:" + std::to_string(index));
    if (readers_[&port].insert(index).second) device->reader_came();
    const Cann& cann = *Cann::get();
    return control::encode(request.request,
                           control::DeviceDescription{device->engine_name(), device->registry().epoch(),
                                                      static_cast<std::uint32_t>(cann.physical_device(index)), fingerprint(cann)});
  }

  const Context& context_;
  const std::shared_ptr<Devices> devices_;
  std::map<const SessionPort*, std::set<std::int32_t>> readers_;  // loop thread only; the devices that each may be linked to
};

}  // namespace

Status probe() { return Cann::get().status(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<HixlTransport>(context); }

}  // namespace ray_hixl::transport::hixl
