#include "object/destination.h"

#include <string>

namespace ray_hixl {
namespace {

using Blocks = std::vector<std::shared_ptr<const memory::Block>>;

// Every tensor with its length and layout, without memory.
std::vector<FetchedTensor> list_tensors(const Metadata& metadata) {
  std::vector<FetchedTensor> tensors;
  tensors.reserve(metadata.size());
  for (const Metadata::Run& run : metadata.runs()) {
    FetchedTensor tensor;
    tensor.length = metadata.layouts()[run.layout].bytes();
    tensor.layout = run.layout;
    tensors.insert(tensors.end(), run.count, tensor);
  }
  return tensors;
}

// Gives tensors memory. Small ones are collected until their block is full.
class Allocator {
 public:
  explicit Allocator(memory::Arena& arena) : arena_(arena) {}

  Status place(FetchedTensor& tensor) {
    if (tensor.length == 0) return Status::ok();
    if (tensor.length >= kOwnBlockBytes) {
      Result<std::shared_ptr<const memory::Block>> block = allocate(tensor.length);
      if (!block.is_ok()) return block.status();
      give(tensor, *block, 0);
      return Status::ok();
    }
    if (shared_bytes_ + tensor.length > kSharedBlockBytes) RAY_HIXL_RETURN_IF_ERROR(flush());
    shared_.push_back({&tensor, shared_bytes_});
    shared_bytes_ = (shared_bytes_ + tensor.length + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
    return Status::ok();
  }

  // Allocates the block of the small tensors collected so far.
  Status flush() {
    if (shared_.empty()) return Status::ok();
    const auto& [last, last_offset] = shared_.back();
    Result<std::shared_ptr<const memory::Block>> block = allocate(last_offset + last->length);
    if (!block.is_ok()) return block.status();
    for (const auto& [tensor, offset] : shared_) give(*tensor, *block, offset);
    shared_.clear();
    shared_bytes_ = 0;
    return Status::ok();
  }

  [[nodiscard]] Blocks take_blocks() { return std::move(blocks_); }

 private:
  Result<std::shared_ptr<const memory::Block>> allocate(std::uint64_t bytes) {
    Result<std::shared_ptr<const memory::Block>> block = arena_.allocate(bytes);
    if (block.is_ok()) blocks_.push_back(*block);
    return block;
  }

  static void give(FetchedTensor& tensor, const std::shared_ptr<const memory::Block>& block, std::uint64_t offset) {
    tensor.address = block->address + offset;
    tensor.block = std::const_pointer_cast<memory::Block>(block);
  }

  memory::Arena& arena_;
  Blocks blocks_;
  std::vector<std::pair<FetchedTensor*, std::uint64_t>> shared_;  // with their offsets
  std::uint64_t shared_bytes_ = 0;
};

Status check_target(std::size_t index, const MemoryRange& target, std::uint64_t bytes) {
  const std::string name = "target buffer " + std::to_string(index);
  if (target.kind != MemoryKind::kHost) {
    return Status(Code::kNotAvailable, name + " is device memory; this version fetches into host memory only");
  }
  if (target.length != bytes) {
    return Status(Code::kInvalidArgument,
                  name + " has " + std::to_string(target.length) + " bytes, but the tensor has " + std::to_string(bytes));
  }
  if (target.address == nullptr && bytes != 0) return Status(Code::kInvalidArgument, name + " has no address");
  return Status::ok();
}

}  // namespace

Result<Destinations> allocate_destinations(const Metadata& metadata, memory::Arena& arena) {
  Destinations destinations;
  destinations.tensors = list_tensors(metadata);
  Allocator allocator(arena);
  for (FetchedTensor& tensor : destinations.tensors) RAY_HIXL_RETURN_IF_ERROR(allocator.place(tensor));
  RAY_HIXL_RETURN_IF_ERROR(allocator.flush());
  destinations.holds = std::make_shared<const Blocks>(allocator.take_blocks());
  return destinations;
}

Result<Destinations> use_targets(const Metadata& metadata, std::span<const MemoryRange> targets, std::shared_ptr<const void> owner) {
  if (targets.size() != metadata.size()) {
    return Status(Code::kInvalidArgument, std::to_string(targets.size()) + " target buffers were given for an object of " +
                                              std::to_string(metadata.size()) + " tensors; give one for each");
  }
  Destinations destinations;
  destinations.tensors = list_tensors(metadata);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    RAY_HIXL_RETURN_IF_ERROR(check_target(i, targets[i], destinations.tensors[i].length));
    destinations.tensors[i].address = targets[i].address;
  }
  destinations.holds = std::move(owner);
  return destinations;
}

std::shared_ptr<const transport::Plan> make_plan(const Metadata& metadata, const Destinations& destinations) {
  auto plan = std::make_shared<transport::Plan>();
  plan->sources = {metadata.handle()};
  plan->pieces.reserve(destinations.tensors.size());
  for (const FetchedTensor& tensor : destinations.tensors) {
    if (tensor.length == 0) continue;
    plan->pieces.push_back({tensor.address, plan->bytes, tensor.length, 0, 0});
    plan->bytes += tensor.length;
  }
  plan->holds = destinations.holds;
  return plan;
}

}  // namespace ray_hixl
