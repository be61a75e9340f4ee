#include "ray_hixl/engine.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "base/process_shared.h"
#include "control/descriptor.h"
#include "engine/engine_impl.h"
#include "engine/peer_impl.h"
#include "engine/region_impl.h"

namespace ray_hixl {
namespace {

Status check_range(const MemoryRange& range) {
  if (range.address == nullptr && range.length != 0) return Status(Code::kInvalidArgument, "a range with bytes needs an address");
  const auto first = reinterpret_cast<std::uintptr_t>(range.address);
  if (range.length > std::numeric_limits<std::uintptr_t>::max() - first) {
    return Status(Code::kInvalidArgument, "a range of " + std::to_string(range.length) + " bytes reaches beyond the address space");
  }
  return Status::ok();
}

// Behind the slot's content: every use of the memory pins that, so when this goes, nothing uses the memory any more.
std::shared_ptr<const void> tell_when_unused(std::shared_ptr<const void> owner, std::shared_ptr<Pending<bool>> unused) {
  const void* const address = unused.get();
  return {address, [owner = std::move(owner), unused = std::move(unused)](const void*) mutable {
            owner.reset();
            unused->set(true);
          }};
}

// `block` is set for arena memory: it is the slot's owner, too.
Result<Region> add_region(const std::shared_ptr<EngineImpl>& engine, const MemoryRange& range, bool remote_write,
                          std::shared_ptr<const void> owner, std::shared_ptr<const void> block) {
  memory::SlotContent content;
  if (range.length != 0) content.ranges = {range};
  content.remote_write = remote_write;
  const auto unused = std::make_shared<Pending<bool>>();
  content.owner = tell_when_unused(std::move(owner), unused);
  Result<Handle> handle = engine->publish_slot(std::move(content), EngineImpl::SlotUse::kRegion);
  if (!handle.is_ok()) return handle.status();
  const RemoteRegion described{engine->self(), *handle, range.length, range.kind, range.device, remote_write};
  return Region(std::make_shared<RegionImpl>(engine, described, range, std::move(block), unused));
}

// A registration of the allocation around `range`; it keeps `owner`.
Result<std::shared_ptr<const void>> register_device_memory(EngineImpl& engine, const MemoryRange& range, const MemoryRange& segment,
                                                           std::shared_ptr<const void> owner) {
  const Result<std::shared_ptr<device::Device>> device = engine.devices().get(range.device);
  if (!device.is_ok()) return device.status();
  const bool is_known = segment.length != 0;
  if (is_known && (range.address < segment.address || range.address + range.length > segment.address + segment.length)) {
    return Status(Code::kInvalidArgument, "the range does not lie in its segment");
  }
  return (*device)->register_memory(is_known ? segment : (*device)->allocation_of(range), std::move(owner));
}

Result<std::shared_ptr<const memory::Block>> allocate_device_memory(EngineImpl& engine, std::uint64_t bytes, std::int32_t index,
                                                                    const SetFence& set_fence, Deadline deadline) {
  const Result<std::shared_ptr<device::Device>> device = engine.devices().get(index);
  if (!device.is_ok()) return device.status();
  return (*device)->allocate(bytes, set_fence ? set_fence : [&] { return (*device)->set_fence(); }, deadline);
}

// Pinned memory stays so for as long as the region is there, whatever becomes of the one that it was allocated with; where nobody has that
// any more it is host memory as any other.
void hold_pinned(EngineImpl& engine, MemoryRange& range, std::shared_ptr<const void>& owner) {
  const auto device = engine.devices().find(range.device);
  std::optional<device::Held> held = device ? device->hold(range.address, range.length, owner) : std::nullopt;
  if (held) {
    owner = std::move(held->keep);
  } else {
    range.kind = MemoryKind::kHost;
    range.device = 0;
  }
}

Result<Region> allocate_pinned(const std::shared_ptr<EngineImpl>& engine, std::uint64_t bytes, std::int32_t index) {
  const Result<std::shared_ptr<device::Device>> device = engine->devices().get(index);
  if (!device.is_ok()) return device.status();
  Result<device::Pinned> pinned = (*device)->allocate_pinned(bytes);
  if (!pinned.is_ok()) return pinned.status();
  return add_region(engine, pinned->range, false, pinned->registration ? pinned->registration : pinned->memory, pinned->memory);
}

}  // namespace

Result<Engine> Engine::create(const Options& options) {
  Result<std::shared_ptr<EngineImpl>> impl = EngineImpl::create(options);
  if (!impl.is_ok()) return impl.status();
  return Engine(*std::move(impl));
}

Bytes Engine::descriptor() const { return impl_->descriptor(); }

Result<Region> Engine::register_memory(const MemoryRange& range, bool remote_write, std::shared_ptr<const void> owner,
                                       const MemoryRange& segment) const {
  MemoryRange shown = range;
  Status checked = impl_->check();
  if (checked.is_ok()) checked = check_range(range);
  if (checked.is_ok() && range.kind == MemoryKind::kPinned && range.length != 0) hold_pinned(*impl_, shown, owner);
  if (checked.is_ok() && range.kind == MemoryKind::kDevice && range.length != 0) {
    Result<std::shared_ptr<const void>> registration = register_device_memory(*impl_, range, segment, owner);
    checked = registration.status();
    if (checked.is_ok()) owner = *std::move(registration);
  }
  if (checked.is_ok()) return add_region(impl_, shown, remote_write, std::move(owner), nullptr);
  impl_->reaper().drop(std::move(owner));
  return checked;
}

Result<Region> Engine::allocate(std::uint64_t bytes, MemoryKind kind, std::int32_t device, const SetFence& set_fence) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  if (bytes == 0) return add_region(impl_, MemoryRange{nullptr, 0, kind, device}, false, nullptr, nullptr);
  if (kind == MemoryKind::kPinned) return allocate_pinned(impl_, bytes, device);
  const Deadline deadline = Deadline::in(seconds_to_duration(options().transfer_timeout_s));
  Result<std::shared_ptr<const memory::Block>> block = kind == MemoryKind::kHost
                                                           ? impl_->source_arena().allocate(bytes)
                                                           : allocate_device_memory(*impl_, bytes, device, set_fence, deadline);
  if (!block.is_ok()) return block.status();
  return add_region(impl_, MemoryRange{(*block)->address, bytes, kind, device}, false, *block, *block);
}

Status Engine::reserve(std::int32_t device, std::uint64_t bytes) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  const Result<std::shared_ptr<device::Device>> used = impl_->devices().get(device);
  return used.is_ok() ? (*used)->reserve(bytes) : used.status();
}

bool Engine::is_registered(const MemoryRange& range) const {
  if (range.kind != MemoryKind::kDevice) return true;
  if (impl_->in_child()) return false;
  const auto device = impl_->devices().find(range.device);
  return device && device->epoch_of(range.address, range.length).has_value();
}

Result<Peer> Engine::connect(std::span<const std::byte> descriptor, std::chrono::nanoseconds timeout) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  Result<control::EngineDescriptor> peer = control::decode_engine(descriptor);
  if (!peer.is_ok()) return peer.status();
  Result<std::shared_ptr<link::Link>> link = impl_->open_link(*peer, deadline_in(timeout));
  if (!link.is_ok()) return link.status();
  return Peer(make_process_shared<PeerImpl>(impl_, *std::move(link)));
}

Stats Engine::stats() const { return impl_->stats(); }
const Options& Engine::options() const { return impl_->options(); }
void Engine::close() const { impl_->close(); }

}  // namespace ray_hixl
