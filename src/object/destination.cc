#include "object/destination.h"

#include <algorithm>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "object/placement.h"
#include "object/tensor_blocks.h"

namespace ray_hixl {
namespace {

// Every tensor with its length, layout and the source's device, without memory.
std::vector<FetchedTensor> list_tensors(const Metadata& metadata) {
  std::vector<FetchedTensor> tensors;
  tensors.reserve(metadata.size());
  for (const Metadata::Run& run : metadata.runs()) {
    FetchedTensor tensor;
    tensor.length = metadata.layouts()[run.layout].bytes();
    tensor.layout = run.layout;
    tensors.insert(tensors.end(), run.count, tensor);
  }
  for (const Metadata::Placement& placement : metadata.placements()) {
    for (std::uint64_t i = placement.first; i < placement.first + placement.count; ++i) {
      tensors[i].kind = MemoryKind::kDevice;
      tensors[i].device = placement.device;
    }
  }
  return tensors;
}

// Gives tensors memory: first all of them a place, then all places memory.
class Allocator {
 public:
  Allocator(decltype(Landing::allocate) allocate, std::uint64_t alignment)
      : allocate_(std::move(allocate)), blocks_(alignment, kOwnBlockBytes) {}

  void place(FetchedTensor& tensor) {
    if (tensor.length != 0) placed_.emplace_back(&tensor, blocks_.place(tensor.length));
  }

  // The memory of all of them.
  Result<memory::Blocks> allocate() {
    if (placed_.empty()) return memory::Blocks();
    Result<memory::Blocks> blocks = allocate_(blocks_.lengths());
    if (!blocks.is_ok()) return blocks;
    for (const auto& [tensor, place] : placed_) {
      const std::shared_ptr<const memory::Block>& block = (*blocks)[place.block];
      tensor->address = block->address + place.offset;
      tensor->block = std::const_pointer_cast<memory::Block>(block);
    }
    return blocks;
  }

 private:
  const decltype(Landing::allocate) allocate_;
  TensorBlocks blocks_;
  std::vector<std::pair<FetchedTensor*, TensorBlocks::Place>> placed_;
};

Status check_target(std::size_t index, const MemoryRange& target, const FetchedTensor& tensor) {
  const std::string name = "target buffer " + std::to_string(index);
  if (target.length != tensor.length) {
    return Status(Code::kInvalidArgument,
                  name + " has " + std::to_string(target.length) + " bytes, but the tensor has " + std::to_string(tensor.length));
  }
  if (target.address == nullptr && tensor.length != 0) return Status(Code::kInvalidArgument, name + " has no address");
  return Status::ok();
}

}  // namespace

Result<Destinations> allocate_destinations(const Metadata& metadata, std::span<const std::int32_t> wishes, memory::Arena& arena,
                                           const FindLanding& find_landing) {
  if (!wishes.empty() && wishes.size() != metadata.size()) {
    return Status(Code::kInvalidArgument, std::to_string(wishes.size()) + " devices were given for an object of " +
                                              std::to_string(metadata.size()) + " tensors; give one for each");
  }
  Destinations destinations;
  destinations.tensors = list_tensors(metadata);
  Allocator host([&](std::span<const std::uint64_t> lengths) { return arena.allocate_each(lengths); }, kTensorAlignment);
  // By the device that is wished for, and the source's: the one here, and its memory.
  std::map<std::pair<std::int32_t, std::int32_t>, std::pair<std::int32_t, Allocator>> devices;
  for (std::size_t i = 0; i < destinations.tensors.size(); ++i) {
    FetchedTensor& tensor = destinations.tensors[i];
    if (tensor.kind == MemoryKind::kHost) {
      host.place(tensor);
      continue;
    }
    const std::pair wanted(wishes.empty() ? -1 : wishes[i], tensor.device);
    auto device = devices.find(wanted);
    if (device == devices.end()) {
      Result<Landing> landing = find_landing(wanted.first, wanted.second);
      if (!landing.is_ok()) return landing.status();
      Allocator allocator(std::move(landing->allocate), kPackedAlignment);
      device = devices.try_emplace(wanted, landing->device, std::move(allocator)).first;
    }
    tensor.device = device->second.first;
    if (tensor.device != LandingWish::kHost) {
      device->second.second.place(tensor);
      continue;
    }
    tensor.kind = MemoryKind::kHost;
    tensor.device = 0;
    host.place(tensor);
  }
  Result<memory::Blocks> blocks = host.allocate();
  if (!blocks.is_ok()) return blocks.status();
  for (auto& [wanted, device] : devices) {
    const Result<memory::Blocks> more = device.second.allocate();
    if (!more.is_ok()) return more.status();
    blocks->insert(blocks->end(), more->begin(), more->end());
  }
  destinations.holds = std::make_shared<const memory::Blocks>(*std::move(blocks));
  destinations.pads = true;
  return destinations;
}

Status check_apart(std::span<const MemoryRange> targets) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i].length != 0) order.push_back(i);
  }
  const auto place = [&](std::size_t i) { return std::tuple(targets[i].kind, targets[i].device, targets[i].address); };
  if (!std::ranges::is_sorted(order, {}, place)) std::ranges::sort(order, {}, place);
  for (std::size_t i = 1; i < order.size(); ++i) {
    const MemoryRange& before = targets[order[i - 1]];
    const MemoryRange& next = targets[order[i]];
    if (before.kind != next.kind || before.device != next.device || before.address + before.length <= next.address) continue;
    return Status(Code::kInvalidArgument, "target buffers " + std::to_string(order[i - 1]) + " and " + std::to_string(order[i]) +
                                              " share memory: each tensor needs a target of its own");
  }
  return Status::ok();
}

Result<Destinations> use_targets(const Metadata& metadata, std::span<const MemoryRange> targets, std::shared_ptr<const void> owner) {
  if (targets.size() != metadata.size()) {
    return Status(Code::kInvalidArgument, std::to_string(targets.size()) + " target buffers were given for an object of " +
                                              std::to_string(metadata.size()) + " tensors; give one for each");
  }
  Destinations destinations;
  destinations.tensors = list_tensors(metadata);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    RAY_HIXL_RETURN_IF_ERROR(check_target(i, targets[i], destinations.tensors[i]));
    destinations.tensors[i].address = targets[i].address;
    destinations.tensors[i].kind = targets[i].kind;
    destinations.tensors[i].device = targets[i].device;
  }
  RAY_HIXL_RETURN_IF_ERROR(check_apart(targets));
  destinations.holds = std::move(owner);
  destinations.callers_memory = true;
  return destinations;
}

namespace {

void set_place(transport::Plan& plan, transport::Piece& piece, const transport::DevicePlace& place) {
  if (plan.places.empty() || plan.places.back() != place) plan.places.push_back(place);
  piece.place = static_cast<std::int32_t>(plan.places.size() - 1);
}

// Sets the places of the pieces that come out of device memory, and their addresses at the source.
void place_device_sources(transport::Plan& plan, const Metadata& metadata, const Destinations& destinations,
                          const std::vector<std::size_t>& piece_of) {
  for (const Metadata::Placement& placement : metadata.placements()) {
    visit_placement(metadata, placement, [&](std::uint64_t index, std::uint64_t address) {
      const FetchedTensor& tensor = destinations.tensors[index];
      if (tensor.length == 0) return;
      transport::Piece& piece = plan.pieces[piece_of[index]];
      if (tensor.kind == MemoryKind::kHost) return set_place(plan, piece, {-1, -1, 0, true});
      piece.address = address;
      if (tensor.kind == MemoryKind::kPinned) return set_place(plan, piece, {-1, placement.device, placement.epoch, true, tensor.device});
      set_place(plan, piece, {tensor.device, placement.device, placement.epoch});
    });
  }
}

// And of those that come out of host memory to a device.
void place_host_sources(transport::Plan& plan, const Destinations& destinations) {
  std::size_t piece = 0;
  for (const FetchedTensor& tensor : destinations.tensors) {
    if (tensor.length == 0) continue;
    if (tensor.kind == MemoryKind::kDevice && plan.pieces[piece].place < 0)
      set_place(plan, plan.pieces[piece], {tensor.device, -1, 0, true});
    ++piece;
  }
}

}  // namespace

std::shared_ptr<const transport::Plan> make_plan(const Metadata& metadata, const Destinations& destinations) {
  auto plan = std::make_shared<transport::Plan>();
  plan->sources = {metadata.handle()};
  plan->pieces.reserve(destinations.tensors.size());
  std::vector<std::size_t> piece_of(metadata.placements().empty() ? 0 : destinations.tensors.size());
  for (std::size_t i = 0; i < destinations.tensors.size(); ++i) {
    const FetchedTensor& tensor = destinations.tensors[i];
    if (tensor.length == 0) continue;
    if (!piece_of.empty()) piece_of[i] = plan->pieces.size();
    plan->pieces.push_back({tensor.address, plan->bytes, tensor.length, 0, 0});
    plan->bytes += tensor.length;
  }
  place_device_sources(*plan, metadata, destinations, piece_of);
  place_host_sources(*plan, destinations);
  plan->once = true;
  plan->holds.set(destinations.holds);
  plan->pads = destinations.pads;
  plan->callers_memory = destinations.callers_memory;
  return plan;
}

}  // namespace ray_hixl
