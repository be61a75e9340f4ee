// Fuzz target: object metadata, which comes from another process by way of Ray. Runs under libFuzzer or driver.cc.
#include <cstdint>
#include <optional>
#include <span>

#include "object/metadata.h"
#include "require.h"

namespace ray_hixl {
namespace {

Bytes encode(const Metadata& metadata) {
  return encode_metadata({metadata.engine(), metadata.handle(), metadata.layouts(), metadata.runs(), metadata.error()});
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

void try_metadata(ByteView input) {
  const Result<MetadataHead> head = decode_head(input);
  const Result<Metadata> metadata = Metadata::decode(input);
  if (!metadata.is_ok()) {
    require(metadata.status().code() == Code::kInvalidArgument, "malformed metadata is an invalid argument");
    return;
  }
  require(head.is_ok() && head->handle == metadata->handle(), "what can be decoded has a head");
  check(*metadata);
  const Bytes once = encode(*metadata);
  const Result<Metadata> again = Metadata::decode(once);
  require(again.is_ok() && encode(*again) == once, "metadata survives encoding");
}

}  // namespace
}  // namespace ray_hixl

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ray_hixl::try_metadata(std::as_bytes(std::span(data, size)));
  return 0;
}
