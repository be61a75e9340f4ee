#include "object/metadata.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "control/descriptor.h"
#include "control/fields.h"
#include "control/messages.h"
#include "control/status_codec.h"
#include "object/placement.h"

namespace ray_hixl {
namespace {

constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kLongestDescriptor = 4096;

Status malformed(const std::string& what) { return Status(Code::kInvalidArgument, "not valid object metadata: " + what); }

// An element type, as the table of types holds it.
struct ElementType {
  std::string_view name;
  std::uint32_t bytes = 0;
  friend bool operator==(const ElementType&, const ElementType&) = default;
};

void encode_layouts(ByteWriter& out, std::span<const Layout> layouts) {
  std::vector<ElementType> types;
  std::vector<std::size_t> type_of;
  type_of.reserve(layouts.size());
  for (const Layout& layout : layouts) {
    const ElementType type{layout.dtype, layout.item_bytes};
    const auto found = std::find(types.begin(), types.end(), type);
    type_of.push_back(static_cast<std::size_t>(found - types.begin()));
    if (found == types.end()) types.push_back(type);
  }
  out.varint(types.size());
  for (const ElementType& type : types) {
    out.text(type.name);
    out.varint(type.bytes);
  }
  out.varint(layouts.size());
  for (std::size_t i = 0; i < layouts.size(); ++i) {
    out.varint(type_of[i]);
    out.varint(layouts[i].shape.size());
    for (const std::uint64_t dimension : layouts[i].shape) out.varint(dimension);
  }
}

// A count of things that take at least `smallest` bytes each: never more than the bytes that are there can hold.
std::size_t read_count(ByteReader& in, std::size_t smallest) {
  const std::uint64_t count = in.varint();
  if (count > in.remaining() / smallest) {
    in.fail();
    return 0;
  }
  return static_cast<std::size_t>(count);
}

struct OwnedType {
  std::string name;
  std::uint32_t bytes = 0;
};

std::vector<OwnedType> decode_types(ByteReader& in) {
  std::vector<OwnedType> types(read_count(in, 3));
  for (OwnedType& type : types) {
    type.name = in.text(kLongestTypeName);
    type.bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(in.varint(), kLargestItem + 1));  // too large stays too large
    if (!in.ok()) break;
  }
  return types;
}

std::vector<Layout> decode_layouts(ByteReader& in) {
  const std::vector<OwnedType> types = decode_types(in);
  std::vector<Layout> layouts;
  const std::size_t count = read_count(in, 2);
  layouts.reserve(count);
  for (std::size_t i = 0; i < count && in.ok(); ++i) {
    const std::uint64_t type = in.varint();
    const std::size_t dimensions = read_count(in, 1);
    if (type >= types.size() || dimensions > kMostDimensions) in.fail();
    if (!in.ok()) break;
    Layout& layout = layouts.emplace_back(Layout{types[type].name, types[type].bytes, std::vector<std::uint64_t>(dimensions)});
    for (std::uint64_t& dimension : layout.shape) dimension = in.varint();
  }
  return layouts;
}

// Their `first` is set, wrapped around if the counts are absurd: check_runs() refuses those.
std::vector<Metadata::Run> decode_runs(ByteReader& in, std::size_t layouts) {
  std::vector<Metadata::Run> runs(read_count(in, 2));
  std::uint64_t first = 0;
  for (Metadata::Run& run : runs) {
    const std::uint64_t layout = in.varint();
    if (layout >= layouts) in.fail();
    run = {static_cast<std::uint32_t>(layout), first, in.varint()};
    first += run.count;
    if (!in.ok()) break;
  }
  return runs;
}

void encode_placements(ByteWriter& out, std::span<const Metadata::Placement> placements) {
  out.varint(placements.size());
  std::uint64_t end = 0;  // of the placement before
  for (const Metadata::Placement& placement : placements) {
    out.varint(placement.first - end);
    out.varint(placement.count);
    out.varint(static_cast<std::uint64_t>(placement.device));
    out.varint(placement.epoch);
    out.varint(placement.address);
    out.varint(placement.alignment);
    end = placement.first + placement.count;
  }
}

// Indices wrap around if they are absurd: check_placements() refuses those.
std::vector<Metadata::Placement> decode_placements(ByteReader& in) {
  std::vector<Metadata::Placement> placements(read_count(in, 6));
  std::uint64_t end = 0;
  for (Metadata::Placement& placement : placements) {
    placement.first = end + in.varint();
    placement.count = in.varint();
    placement.device = static_cast<std::int32_t>(std::min<std::uint64_t>(in.varint(), control::kDevices));  // too large stays too large
    placement.epoch = in.varint();
    placement.address = in.varint();
    placement.alignment = in.varint();
    end = placement.first + placement.count;
    if (!in.ok()) break;
  }
  return placements;
}

Result<MetadataHead> read_head(ByteReader& in) {
  const ByteView magic = in.bytes(control::kObjectMagic.size());
  if (!std::ranges::equal(magic, control::as_bytes(control::kObjectMagic)))
    return malformed("these bytes are " + std::string(control::say_what_is(magic)));
  const std::uint16_t version = in.u16();
  if (in.ok() && version != kVersion) {
    return malformed("version " + std::to_string(version) + ", but this ray-hixl reads version " + std::to_string(kVersion) +
                     "; use one release of ray-hixl on both sides");
  }
  MetadataHead head;
  head.handle.slot = in.u32();
  head.handle.generation = in.u64();
  head.handle.key = in.u64();
  head.engine = in.blob(kLongestDescriptor);
  if (!in.ok()) return malformed("it is truncated or a length is wrong");
  return head;
}

}  // namespace

void append_tensor(std::vector<Metadata::Run>& runs, std::uint32_t layout) {
  if (!runs.empty() && runs.back().layout == layout) {
    ++runs.back().count;
    return;
  }
  const std::uint64_t first = runs.empty() ? 0 : runs.back().first + runs.back().count;
  runs.push_back({layout, first, 1});
}

Bytes encode_metadata(const ObjectDescription& object) {
  ByteWriter out;
  out.bytes(control::as_bytes(control::kObjectMagic));
  out.u16(kVersion);
  out.u32(object.handle.slot);
  out.u64(object.handle.generation);
  out.u64(object.handle.key);
  out.blob(object.engine);
  control::write_status(out, object.error);
  encode_layouts(out, object.layouts);
  out.varint(object.runs.size());
  for (const Metadata::Run& run : object.runs) {
    out.varint(run.layout);
    out.varint(run.count);
  }
  encode_placements(out, object.placements);
  return out.take();
}

Result<MetadataHead> decode_head(ByteView packed) {
  ByteReader in(packed);
  return read_head(in);
}

Result<Metadata> Metadata::decode(std::span<const std::byte> packed) {
  ByteReader in(packed);
  const Result<MetadataHead> head = read_head(in);
  if (!head.is_ok()) return head.status();
  Metadata metadata;
  metadata.engine_.assign(head->engine.begin(), head->engine.end());
  metadata.handle_ = head->handle;
  metadata.error_ = control::read_status(in);
  metadata.layouts_ = decode_layouts(in);
  metadata.runs_ = decode_runs(in, metadata.layouts_.size());
  metadata.placements_ = decode_placements(in);
  if (!in.at_end()) return malformed("it is truncated, too long, or a count or length is wrong");
  if (const Status status = check_layouts(metadata.layouts_); !status.is_ok()) return malformed(status.message());
  const Result<std::uint64_t> bytes = check_runs(metadata.layouts_, metadata.runs_);
  if (!bytes.is_ok()) return malformed(bytes.status().message());
  metadata.bytes_ = *bytes;
  if (!metadata.runs_.empty()) metadata.size_ = metadata.runs_.back().first + metadata.runs_.back().count;
  if (!metadata.error_.is_ok() && !metadata.placements_.empty()) return malformed("what could not be published has no place");
  if (const Status status = check_placements(metadata.layouts_, metadata.runs_, metadata.placements_); !status.is_ok())
    return malformed(status.message());
  return metadata;
}

std::size_t Metadata::size() const { return size_; }

std::uint32_t Metadata::layout_of(std::size_t tensor) const {
  const auto after =
      std::upper_bound(runs_.begin(), runs_.end(), tensor, [](std::size_t index, const Run& run) { return index < run.first; });
  return std::prev(after)->layout;
}

}  // namespace ray_hixl
