// Fetching: the consumer's side of an object.
#include <set>
#include <string>

#include "base/option_rules.h"
#include "base/process_shared.h"
#include "control/descriptor.h"
#include "link/waiting_flight.h"
#include "object/destination.h"
#include "object/device_work.h"
#include "object/fetch_impl.h"
#include "object/objects_impl.h"
#include "object/runtime_ops.h"

namespace ray_hixl {
namespace {

std::string describe(const Bytes& engine, const Handle& handle) {
  const Result<control::EngineDescriptor> owner = control::decode_engine(engine);
  const std::string object =
      handle == Handle{} ? "an object" : "object " + std::to_string(handle.slot) + "." + std::to_string(handle.generation);
  return "fetching " + object + " of the " + (owner.is_ok() ? owner->name() : "engine in its metadata");
}

// Says what failed. An object's slot that is no longer valid means that the object was freed. One that never was has no slot.
transport::TransferState::Settle explain_failures(const Metadata& metadata) {
  return [engine = metadata.engine(), handle = metadata.handle()](Status failure) {
    const std::string what = describe(engine, handle);
    if (failure.code() != Code::kInvalidRegion || handle == Handle{}) return failure.with_context(what);
    return Status(
        Code::kObjectFreed,
        what + ": the owner freed it before or while it was read; keep it referenced until the fetch ended (" + failure.message() + ")");
  };
}

// By the first who chose: the tensor's target, the call, the options; else the framework, which may look at the devices.
Result<std::int32_t> choose_device(EngineImpl& engine, DeviceOps& ops, const LandingWish& wish, std::int32_t of_tensor,
                                   std::int32_t source_device) {
  if (of_tensor != -1) return of_tensor;
  if (wish.device) return *wish.device;
  if (engine.options().landing_device == "cpu") return LandingWish::kHost;
  if (const std::optional<std::int32_t> chosen = options::npu_index(engine.options().landing_device)) return *chosen;
  if (const Status usable = engine.devices().usable(); !usable.is_ok()) {
    return Status(
        usable.code(),
        usable.message() +
            "; NPU tensors come to the CPU, by transport staged, with device='cpu', a target there, or the option landing_device='cpu'");
  }
  return ops.landing_device(source_device);
}

Result<Landing> find_landing(EngineImpl& engine, DeviceOps& ops, const LandingWish& wish, std::int32_t of_tensor,
                             std::int32_t source_device, Deadline deadline) {
  const Result<std::int32_t> chosen = choose_device(engine, ops, wish, of_tensor, source_device);
  if (!chosen.is_ok()) return chosen.status();
  if (*chosen == LandingWish::kHost) return Landing{LandingWish::kHost, nullptr};
  RAY_HIXL_RETURN_IF_ERROR(engine.devices().usable());
  const Result<std::shared_ptr<device::Device>> device = engine.devices().get(*chosen);
  if (!device.is_ok()) return device.status();
  return Landing{(*device)->index(), [device = *device, &ops, deadline](std::span<const std::uint64_t> lengths) {
                   return device->allocate_each(lengths, [&] { return ops.set_fence(device->index()); }, deadline);
                 }};
}

// With targets in host memory that HIXL knows named as that: they are received into by it.
std::vector<MemoryRange> name_pinned(const device::Devices& devices, std::span<const MemoryRange> targets) {
  std::vector<MemoryRange> named(targets.begin(), targets.end());
  for (MemoryRange& target : named) {
    if (target.kind != MemoryKind::kHost || target.length == 0) continue;
    const std::optional<std::int32_t> device = devices.pinned_by(target.address, target.length);
    if (device) target = {target.address, target.length, MemoryKind::kPinned, *device};
  }
  return named;
}

// HIXL must know device targets, and what the caller queued before the fetch must be done with them. Nothing else is waited for, least of
// all what is queued from now on: it may need the fetch itself.
Status prepare_targets(EngineImpl& engine, DeviceOps& ops, std::span<const MemoryRange> targets, Deadline deadline) {
  std::set<std::int32_t> devices;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].kind != MemoryKind::kDevice || targets[i].length == 0) continue;
    const auto device = engine.devices().find(targets[i].device);
    if (!device || !device->epoch_of(targets[i].address, targets[i].length)) {
      return Status(Code::kNotAvailable, "target buffer " + std::to_string(i) +
                                             " is device memory that is not registered; call register_memory() for it, or fetch without "
                                             "targets and copy");
    }
    devices.insert(targets[i].device);
  }
  return wait_for_devices(engine, ops, devices, deadline, "the fetch");
}

}  // namespace

std::shared_ptr<FetchImpl> ObjectsImpl::fetch(std::span<const std::byte> packed, std::span<const MemoryRange> targets,
                                              std::shared_ptr<const void> targets_owner, std::chrono::nanoseconds timeout, DeviceOps* ops,
                                              const LandingWish& wish) {
  const Deadline deadline = deadline_in(timeout);
  Result<Metadata> decoded = Metadata::decode(packed);
  const Status status = decoded.status();
  auto explain = status.is_ok() ? explain_failures(*decoded) : nullptr;
  auto fetch = make_process_shared<FetchImpl>(status.is_ok() ? *std::move(decoded) : Metadata{},
                                              engine_->new_transfer(deadline, std::move(explain)));
  const Status started = start_fetch(fetch, status, targets, engine_->reaper().adopt(std::move(targets_owner)), ops, wish);
  if (!started.is_ok()) fetch->transfer.state()->finish(started);
  return fetch;
}

// Not ok: the fetch ends with that. Otherwise whoever has the transfer now ends it.
Status ObjectsImpl::start_fetch(const std::shared_ptr<FetchImpl>& fetch, const Status& decoded, std::span<const MemoryRange> targets,
                                std::shared_ptr<const void> targets_owner, DeviceOps* ops, const LandingWish& wish) {
  RAY_HIXL_RETURN_IF_ERROR(engine_->check());
  RAY_HIXL_RETURN_IF_ERROR(decoded);
  const Metadata& metadata = fetch->metadata;
  RAY_HIXL_RETURN_IF_ERROR(metadata.error().with_context("its source could not publish it"));
  const Result<control::EngineDescriptor> owner = control::decode_engine(metadata.engine());
  if (!owner.is_ok()) return owner.status();
  RuntimeOps own_ops(engine_->devices(), {});
  DeviceOps& device_ops = ops != nullptr ? *ops : own_ops;
  const Deadline deadline = fetch->transfer.state()->deadline();
  if (metadata.bytes() > 0) RAY_HIXL_RETURN_IF_ERROR(check_time(deadline, *owner));
  Result<Destinations> destinations =
      targets.empty() ? allocate_destinations(metadata, wish.of, engine_->landing_arena(),
                                              [&](std::int32_t of_tensor, std::int32_t source_device) {
                                                return find_landing(*engine_, device_ops, wish, of_tensor, source_device, deadline);
                                              })
                      : use_targets(metadata, name_pinned(engine_->devices(), targets), std::move(targets_owner));
  if (!destinations.is_ok()) return destinations.status();
  RAY_HIXL_RETURN_IF_ERROR(prepare_targets(*engine_, device_ops, targets, deadline));
  if (destinations->tensors.size() > transport::kFewPieces)
    destinations->holds = engine_->reaper().off_loop(std::move(destinations->holds));
  auto plan = engine_->reaper().off_loop(make_plan(metadata, *destinations));
  fetch->tensors = std::make_shared<std::vector<FetchedTensor>>(std::move(destinations->tensors));
  if (fetch->tensors->size() > transport::kFewPieces) fetch->tensors = engine_->reaper().off_loop(std::move(fetch->tensors));
  destinations->holds = nullptr;
  const auto& transfer = fetch->transfer.state();
  // Nobody gets them any more, and what may still be written to is kept by the plan.
  transfer->before_done([weak = std::weak_ptr(fetch)](const Status& result) {
    if (const auto ended = weak.lock(); ended && !result.is_ok()) ended->let_tensors_go();
  });
  const Deadline connect = Deadline::in(seconds_to_duration(engine_->options().connect_timeout_s));
  link::WaitingFlight::start(engine_->links(), *owner, connect.sooner(transfer->deadline()), std::move(plan), transfer);
  return Status::ok();
}

const Transfer& Fetch::transfer() const { return impl_->transfer; }
const Metadata& Fetch::metadata() const { return impl_->metadata; }

Result<std::vector<FetchedTensor>> Fetch::take() const {
  if (!impl_->transfer.done()) return Status(Code::kInvalidArgument, "the fetch has not ended: wait for it before its tensors are taken");
  RAY_HIXL_RETURN_IF_ERROR(impl_->transfer.result());
  if (impl_->taken.exchange(true)) return Status(Code::kInvalidArgument, "the tensors of this fetch were taken before");
  const auto tensors = std::move(impl_->tensors);
  return tensors ? std::move(*tensors) : std::vector<FetchedTensor>();
}

}  // namespace ray_hixl
