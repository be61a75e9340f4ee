#include "ray_hixl/engine.h"

#include <algorithm>
#include <limits>

#include "control/descriptor.h"
#include "engine/engine_impl.h"
#include "engine/peer_impl.h"
#include "engine/pending.h"
#include "engine/region_impl.h"

namespace ray_hixl {
namespace {

// An opening ends at its deadline and says how far it came: this gives it the moment that takes.
Deadline a_moment_after(Deadline deadline) {
  const std::chrono::nanoseconds longest = std::chrono::hours(24 * 365);
  return Deadline::in(std::min(deadline.remaining(), longest) + std::chrono::seconds(1));
}

Status check_range(const MemoryRange& range) {
  if (range.kind != MemoryKind::kHost) {
    return Status(Code::kNotAvailable, "device memory cannot be registered in this version; register host memory");
  }
  if (range.address == nullptr && range.length != 0) return Status(Code::kInvalidArgument, "a range with bytes needs an address");
  const auto first = reinterpret_cast<std::uintptr_t>(range.address);
  if (range.length > std::numeric_limits<std::uintptr_t>::max() - first) {
    return Status(Code::kInvalidArgument, "a range of " + std::to_string(range.length) + " bytes reaches beyond the address space");
  }
  return Status::ok();
}

// `block` is set for arena memory: it is the slot's owner, too.
Result<Region> add_region(const std::shared_ptr<EngineImpl>& engine, const MemoryRange& range, bool remote_write,
                          std::shared_ptr<const void> owner, std::shared_ptr<const void> block) {
  memory::SlotContent content;
  if (range.length != 0) content.ranges = {range};
  content.remote_write = remote_write;
  content.owner = std::move(owner);
  Result<Handle> handle = engine->publish_slot(std::move(content), EngineImpl::SlotUse::kRegion);
  if (!handle.is_ok()) return handle.status();
  const RemoteRegion described{engine->self(), *handle, range.length, range.kind, range.device, remote_write};
  return Region(std::make_shared<RegionImpl>(engine, described, range, std::move(block)));
}

}  // namespace

Result<Engine> Engine::create(const Options& options) {
  Result<std::shared_ptr<EngineImpl>> impl = EngineImpl::create(options);
  if (!impl.is_ok()) return impl.status();
  return Engine(*std::move(impl));
}

Bytes Engine::descriptor() const { return impl_->descriptor(); }

Result<Region> Engine::register_memory(const MemoryRange& range, bool remote_write, std::shared_ptr<const void> owner) const {
  Status checked = impl_->check();
  if (checked.is_ok()) checked = check_range(range);
  if (checked.is_ok()) return add_region(impl_, range, remote_write, std::move(owner), nullptr);
  impl_->reaper().drop(std::move(owner));
  return checked;
}

Result<Region> Engine::allocate(std::uint64_t bytes) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  if (bytes == 0) return add_region(impl_, MemoryRange{}, false, nullptr, nullptr);
  Result<std::shared_ptr<const memory::Block>> block = impl_->source_arena().allocate(bytes);
  if (!block.is_ok()) return block.status();
  return add_region(impl_, MemoryRange{(*block)->address, bytes}, false, *block, *block);
}

Result<Peer> Engine::connect(std::span<const std::byte> descriptor, std::chrono::nanoseconds timeout) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  Result<control::EngineDescriptor> peer = control::decode_engine(descriptor);
  if (!peer.is_ok()) return peer.status();
  const Deadline deadline = deadline_in(timeout);
  const auto pending = std::make_shared<Pending<Result<std::shared_ptr<link::Link>>>>();
  impl_->links().open(*peer, deadline, [pending](Result<std::shared_ptr<link::Link>> link) { pending->set(std::move(link)); });
  auto link = pending->wait(a_moment_after(deadline));
  if (!link) return Status(Code::kConnectError, "connecting to the " + peer->name() + " timed out");
  if (!link->is_ok()) return link->status();
  return Peer(std::make_shared<PeerImpl>(impl_, **std::move(link)));
}

Stats Engine::stats() const { return impl_->stats(); }
const Options& Engine::options() const { return impl_->options(); }
void Engine::close() const { impl_->close(); }

}  // namespace ray_hixl
