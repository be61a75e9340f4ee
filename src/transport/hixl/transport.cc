// hixl: device memory through HIXL, CANN's one-sided library. The reader connects and reads; the owner takes no part but to say where its
// memory lies. Between two engines of one process the runtime copies, since HIXL does not link an engine to its own process's.
#include <functional>
#include <utility>

#include "transport/factories.h"
#include "transport/hixl/cann/cann.h"
#include "transport/hixl/channel.h"
#include "transport/hixl/npus.h"
#include "transport/hixl/readers.h"

namespace ray_hixl::transport::hixl {
namespace {

// The parts of a slot in device memory, or pinned, as peers have to know them.
Result<control::Located> locate(const memory::SlotContent& content, const Npus& npus) {
  control::Located located;
  std::uint64_t offset = 0;
  for (const MemoryRange& range : content.ranges) {
    const std::uint64_t start = std::exchange(offset, offset + range.length);
    if (range.kind == MemoryKind::kHost || range.length == 0) continue;
    const auto npu = npus.started(range.device);
    const auto epoch = npu ? npu->epoch_of(range.address, range.length) : std::nullopt;
    if (!epoch) return Status(Code::kInvalidRegion, "the memory is not registered any more");
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
  explicit HixlTransport(const Context& context) : context_(context), npus_(std::static_pointer_cast<Npus>(context.devices)) {
    npus_->set_recall({[readers = std::weak_ptr(readers_)](std::int32_t device, bool anyway, Deadline deadline, Readers::Then then) {
                         if (const auto alive = readers.lock()) return alive->recall(device, anyway, deadline, std::move(then));
                         then(true);
                       },
                       [readers = std::weak_ptr(readers_)](std::int32_t device) {
                         if (const auto alive = readers.lock()) alive->reopen(device);
                       }});
  }

  control::TransportKind kind() const override { return control::TransportKind::kHixl; }
  bool reads_by_address() const override { return false; }
  std::vector<std::byte> describe(const ReaderView&) const override { return {}; }

  Result<std::unique_ptr<Channel>> open(const PeerView& peer, ByteView, Port& port) override {
    return std::unique_ptr<Channel>(std::make_unique<HixlChannel>(context_, npus_, peer, port));
  }

  bool serve(const control::Frame& request, Responder& responder) override {
    switch (request.type) {
      case control::MessageType::kLocate: located(request, std::move(responder)); return true;
      case control::MessageType::kDescribeDevice: describe(request, std::move(responder)); return true;
      case control::MessageType::kAwaitRecall: await_recall(request, std::move(responder)); return true;
      case control::MessageType::kReleaseDevice: release(request, std::move(responder)); return true;
      case control::MessageType::kCannotLink: cannot_link(request, std::move(responder)); return true;
      default: return false;
    }
  }

  void accept(Fd, std::vector<std::byte>) override {}  // hixl needs no connection of its own: hangs up

  void session_ended(const ReaderView& reader) override { readers_->session_ended(reader); }

  void shut_down() override { readers_->shut_down(); }

 private:
  void located(const control::Frame& request, Responder responder) {
    const Result<control::Locate> wanted = control::decode_locate(request.body);
    if (!wanted.is_ok()) return std::move(responder).fail(wanted.status());
    const auto content = context_.slots.pin(wanted->handle);
    if (!content.is_ok()) return std::move(responder).fail(content.status());
    auto make = [content = *content, npus = npus_](std::uint64_t id) -> Result<std::vector<std::byte>> {
      const Result<control::Located> found = locate(*content, *npus);
      if (!found.is_ok()) return found.status();
      return control::encode(id, *found);
    };
    std::move(responder).answer(context_.copy_pool, (*content)->ranges.size(), std::move(make));
  }

  void describe(const control::Frame& request, Responder responder) {
    const Result<control::DescribeDevice> wanted = control::decode_describe_device(request.body);
    if (!wanted.is_ok()) return std::move(responder).fail(wanted.status());
    readers_->describe(static_cast<std::int32_t>(wanted->device), std::move(responder));
  }

  void await_recall(const control::Frame& request, Responder responder) {
    const Result<control::AwaitRecall> wanted = control::decode_await_recall(request.body);
    if (!wanted.is_ok()) return std::move(responder).fail(wanted.status());
    readers_->await_recall(static_cast<std::int32_t>(wanted->device), wanted->engine, std::move(responder));
  }

  void release(const control::Frame& request, Responder responder) {
    const Result<control::ReleaseDevice> wanted = control::decode_release_device(request.body);
    if (!wanted.is_ok()) return std::move(responder).fail(wanted.status());
    readers_->release(static_cast<std::int32_t>(wanted->device), wanted->engine, std::move(responder));
  }

  void cannot_link(const control::Frame& request, Responder responder) {
    const Result<control::CannotLink> wanted = control::decode_cannot_link(request.body);
    if (!wanted.is_ok()) return std::move(responder).fail(wanted.status());
    readers_->cannot_link(static_cast<std::int32_t>(wanted->device), wanted->engine, std::move(responder));
  }

  const Context& context_;
  const std::shared_ptr<Npus> npus_;  // what create_devices() made
  const std::shared_ptr<Readers> readers_ = std::make_shared<Readers>(context_.loop, *npus_);
};

}  // namespace

Status probe() { return Cann::get().is_ok() ? Cann::get()->hixl : Cann::get().status(); }

std::unique_ptr<Transport> create(const Context& context) { return std::make_unique<HixlTransport>(context); }

}  // namespace ray_hixl::transport::hixl

namespace ray_hixl::transport {

Result<DeviceRuntime> device_runtime() {
  const Result<hixl::Cann>& cann = hixl::Cann::get();
  if (!cann.is_ok()) return cann.status();
  DeviceRuntime runtime{cann->acl.path,      cann->api.path, cann->hixl.message(), cann->api.version, cann->soc, {},
                        cann->client_server, cann->is_fake};
  for (std::uint32_t i = 0; i < cann->devices; ++i) runtime.physical.push_back(cann->physical_device(static_cast<std::int32_t>(i)));
  return runtime;
}

}  // namespace ray_hixl::transport
