#include "object/packing.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "base/round_up.h"
#include "object/device_work.h"
#include "object/placement.h"
#include "object/runtime_ops.h"
#include "object/snapshot.h"

namespace ray_hixl {
namespace {

using device::Device;

// What keeps the tensors of an object: the blocks of those that were copied; the owner of those that stayed, and their registrations, which
// outlive the regions that made them.
struct Kept {
  std::shared_ptr<const void> owner;
  memory::Blocks blocks;
  std::vector<std::shared_ptr<const void>> registrations;
};

// The tensors of one device.
class DevicePacker {
 public:
  DevicePacker(std::shared_ptr<Device> device, DeviceOps& ops, Kept& kept, bool is_snapshot)
      : device_(std::move(device)), ops_(ops), kept_(kept), is_snapshot_(is_snapshot) {}

  // Stays where it is if peers can read it there, and may.
  void add(std::size_t index, const SourceTensor& tensor) {
    const MemoryRange& range = tensor.range;
    if (!is_snapshot_ && range.address != nullptr && hold(range)) return;
    offsets_.push_back({index, bytes_});
    bytes_ = round_up(bytes_ + range.length, kPackedAlignment);
  }

  // Queues the copies of those that cannot stay.
  Status pack(std::vector<SourceTensor>& tensors, Deadline deadline) {
    if (offsets_.empty()) return Status::ok();
    Result<std::shared_ptr<const memory::Block>> block =
        device_->allocate(bytes_, [this] { return ops_.set_fence(device_->index()); }, deadline);
    if (!block.is_ok()) return block.status();
    kept_.blocks.push_back(*block);
    std::vector<DeviceOps::Copy> copies;
    copies.reserve(offsets_.size());
    for (const auto& [index, offset] : offsets_) copies.push_back({index, (*block)->address + offset});
    RAY_HIXL_RETURN_IF_ERROR(ops_.pack(device_->index(), copies));
    for (const DeviceOps::Copy& each : copies) tensors[each.tensor].range.address = each.to;
    return Status::ok();
  }

 private:
  // Is it registered, and will be until the object is gone?
  bool hold(const MemoryRange& range) {
    const auto holds = [&](const device::Registered& held) { return held.holds(range.address, range.length); };
    if (std::ranges::any_of(held_, holds)) return true;
    const std::optional<device::Held> held = device_->hold(range.address, range.length, kept_.owner);
    if (!held) return false;
    held_.push_back(held->registered);
    kept_.registrations.push_back(held->keep);
    return true;
  }

  const std::shared_ptr<Device> device_;
  DeviceOps& ops_;
  Kept& kept_;
  const bool is_snapshot_;
  std::vector<device::Registered> held_;
  std::vector<std::pair<std::size_t, std::uint64_t>> offsets_;  // of what is packed, by index
  std::uint64_t bytes_ = 0;
};

bool takes_snapshots(const EngineImpl& engine) { return engine.options().publish == "snapshot"; }

Status pack_devices(EngineImpl& engine, std::vector<SourceTensor>& tensors, DeviceOps& ops, Kept& kept, Deadline deadline) {
  std::map<std::int32_t, DevicePacker> packers;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const MemoryRange& range = tensors[i].range;
    if (range.kind != MemoryKind::kDevice || range.length == 0) continue;
    auto packer = packers.find(range.device);
    if (packer == packers.end()) {
      Result<std::shared_ptr<Device>> device = engine.devices().get(range.device);
      if (!device.is_ok()) return device.status();
      packer = packers.try_emplace(range.device, *std::move(device), ops, kept, takes_snapshots(engine)).first;
    }
    packer->second.add(i, tensors[i]);
  }
  std::set<std::int32_t> devices;
  for (auto& [index, packer] : packers) {
    RAY_HIXL_RETURN_IF_ERROR(packer.pack(tensors, deadline));
    devices.insert(index);
  }
  // Packed or not: what is still to be computed is not there yet.
  return wait_for_devices(engine, ops, devices, deadline, "the publish");
}

// Behind the devices' own work, which host tensors may come out of.
Status snapshot_host(EngineImpl& engine, std::vector<SourceTensor>& tensors, Kept& kept) {
  Result<memory::Blocks> blocks = take_snapshot(engine, tensors);
  if (!blocks.is_ok()) return blocks.status();
  kept.blocks.insert(kept.blocks.end(), blocks->begin(), blocks->end());
  return Status::ok();
}

Result<std::vector<Metadata::Placement>> find_placements(EngineImpl& engine, std::span<const SourceTensor> tensors) {
  PlacementBuilder builder;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const MemoryRange& range = tensors[i].range;
    if (range.kind != MemoryKind::kDevice) continue;
    std::uint64_t epoch = 0;
    if (range.length != 0) {
      const auto device = engine.devices().find(range.device);
      const auto known = device ? device->epoch_of(range.address, range.length) : std::nullopt;
      if (!known) return Status(Code::kInvalidRegion, "tensor " + std::to_string(i) + " was deregistered while it was published");
      epoch = *known;
    }
    builder.add(i, range.length, range.device, epoch, reinterpret_cast<std::uint64_t>(range.address));
  }
  return builder.take();
}

}  // namespace

Result<PlacedTensors> place_tensors(EngineImpl& engine, std::span<const SourceTensor> tensors, std::shared_ptr<const void> owner,
                                    DeviceOps* ops, Deadline deadline) {
  RuntimeOps own_ops(engine.devices(), tensors);
  PlacedTensors placed;
  placed.tensors.assign(tensors.begin(), tensors.end());
  auto kept = std::make_shared<Kept>();
  kept->owner = std::move(owner);
  Status status = pack_devices(engine, placed.tensors, ops != nullptr ? *ops : own_ops, *kept, deadline);
  if (status.is_ok() && takes_snapshots(engine)) {
    status = snapshot_host(engine, placed.tensors, *kept);
    engine.reaper().drop(std::exchange(kept->owner, nullptr));  // everything was copied
  }
  if (status.is_ok()) {
    Result<std::vector<Metadata::Placement>> placements = find_placements(engine, placed.tensors);
    status = placements.status();
    if (status.is_ok()) placed.placements = *std::move(placements);
  }
  if (!status.is_ok()) {
    engine.reaper().drop(std::move(kept));
    return status;
  }
  placed.owner = std::move(kept);
  return placed;
}

}  // namespace ray_hixl
