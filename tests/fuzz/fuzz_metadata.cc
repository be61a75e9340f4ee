// Fuzz target: object metadata, which comes from another process by way of Ray.
#include <cstdint>
#include <optional>
#include <span>

#include "largest_allocation.h"
#include "object/metadata.h"
#include "object/placement.h"
#include "require.h"

namespace ray_hixl {
namespace {

Bytes encode(const Metadata& metadata) {
  return encode_metadata(
      {metadata.engine(), metadata.handle(), metadata.layouts(), metadata.runs(), metadata.error(), metadata.placements()});
}

// What everything that uses metadata relies on.
void check(const Metadata& metadata) {
  std::uint64_t tensors = 0;
  std::uint64_t bytes = 0;
  for (const Metadata::Run& run : metadata.runs()) {
    require(run.count > 0 && run.first == tensors, "runs follow each other");
    require(run.layout < metadata.layouts().size(), "a run has a layout");
    require(metadata.layout_of(run.first) == run.layout && metadata.layout_of(run.first + run.count - 1) == run.layout,
            "the first and the last tensor of a run have its layout");
    tensors += run.count;
    bytes += run.count * metadata.layouts()[run.layout].bytes();
  }
  require(metadata.size() == tensors && metadata.bytes() == bytes, "the sums are right");
}

void check_placement(const Metadata& metadata, const Metadata::Placement& placement) {
  require(placement.count > 0 && placement.count <= metadata.size() - placement.first, "a placement has tensors");
  require(placement.device >= 0 && placement.device < (1 << 16) && placement.address != 0, "a placement has a device and an address");
  require(placement.alignment >= 1 && placement.alignment <= kMostAlignment, "an alignment is within its limits");
  if (placement.count > 4096) return;  // what follows takes a step for each tensor
  std::uint64_t expected = placement.first;
  std::uint64_t end = placement.address;
  visit_placement(metadata, placement, [&](std::uint64_t tensor, std::uint64_t address) {
    require(tensor == expected++, "the tensors of a placement are visited in order");
    require(address >= end && address - end < placement.alignment, "a tensor begins close behind the one before");
    require(end == placement.address || address % placement.alignment == 0, "a tensor is aligned");
    require(!__builtin_add_overflow(address, metadata.layouts()[metadata.layout_of(tensor)].bytes(), &end), "addresses do not overflow");
  });
  require(expected == placement.first + placement.count, "every tensor of a placement is visited");
}

void check_placements(const Metadata& metadata) {
  require(metadata.error().is_ok() || metadata.placements().empty(), "what could not be published has no place");
  std::uint64_t end = 0;
  for (const Metadata::Placement& placement : metadata.placements()) {
    require(placement.first >= end && placement.first < metadata.size(), "placements are by tensor and do not overlap");
    check_placement(metadata, placement);
    end = placement.first + placement.count;
  }
}

void try_metadata(ByteView input) {
  const Result<MetadataHead> head = decode_head(input);
  const Result<Metadata> metadata = Metadata::decode(input);
  if (!metadata.is_ok()) {
    require(metadata.status().code() == Code::kInvalidArgument, "malformed metadata is an invalid argument");
    return;
  }
  require(head.is_ok() && head->handle == metadata->handle(), "what can be decoded has a head");
  check(*metadata);
  check_placements(*metadata);
  const Bytes once = encode(*metadata);
  const Result<Metadata> again = Metadata::decode(once);
  require(again.is_ok() && encode(*again) == once, "metadata survives encoding");
}

}  // namespace
}  // namespace ray_hixl

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ray_hixl::ModestAllocations limit(size);
  ray_hixl::try_metadata(std::as_bytes(std::span(data, size)));
  return 0;
}
