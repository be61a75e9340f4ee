// Publishing and freeing: the owner's side of an object.
#include <algorithm>
#include <string>

#include "object/layout.h"
#include "object/metadata.h"
#include "object/objects_impl.h"
#include "object/packing.h"

namespace ray_hixl {
namespace {

Status bad_tensor(Code code, std::size_t index, const std::string& what) {
  return Status(code, "tensor " + std::to_string(index) + " cannot be published: " + what);
}

Status check_tensor(std::size_t index, const SourceTensor& tensor, std::uint64_t bytes) {
  if (tensor.range.length != bytes) {
    return bad_tensor(Code::kInvalidArgument, index,
                      "its memory has " + std::to_string(tensor.range.length) + " bytes where its layout has " + std::to_string(bytes));
  }
  if (tensor.range.kind == MemoryKind::kDevice) return Status::ok();  // packed where it has no address
  if (tensor.range.address == nullptr && bytes != 0) return bad_tensor(Code::kInvalidArgument, index, "it has bytes but no address");
  return Status::ok();
}

// The runs of `count` tensors, within the limits of what metadata can say.
template <class LayoutAt>
Result<std::vector<Metadata::Run>> describe(std::span<const Layout> layouts, std::size_t count, LayoutAt layout_at) {
  RAY_HIXL_RETURN_IF_ERROR(check_layouts(layouts));
  std::vector<Metadata::Run> runs;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint32_t layout = layout_at(i);
    if (layout >= layouts.size()) return bad_tensor(Code::kInvalidArgument, i, "there is no layout " + std::to_string(layout));
    append_tensor(runs, layout);
  }
  const Result<std::uint64_t> bytes = check_runs(layouts, runs);
  if (!bytes.is_ok()) return bytes.status();
  return runs;
}

Status check_tensors(std::span<const Layout> layouts, std::span<const SourceTensor> tensors) {
  std::vector<std::uint64_t> bytes_of(layouts.size());
  std::transform(layouts.begin(), layouts.end(), bytes_of.begin(), [](const Layout& layout) { return layout.bytes(); });
  for (std::size_t i = 0; i < tensors.size(); ++i) RAY_HIXL_RETURN_IF_ERROR(check_tensor(i, tensors[i], bytes_of[tensors[i].layout]));
  return Status::ok();
}

// The ranges that hold bytes, in order.
std::vector<MemoryRange> collect_ranges(std::span<const SourceTensor> tensors) {
  std::vector<MemoryRange> ranges;
  ranges.reserve(tensors.size());
  for (const SourceTensor& tensor : tensors) {
    if (tensor.range.length != 0) ranges.push_back(tensor.range);
  }
  return ranges;
}

}  // namespace

Bytes ObjectsImpl::publish(std::span<const Layout> layouts, std::span<const SourceTensor> tensors, std::shared_ptr<const void> owner,
                           DeviceOps* ops) {
  ObjectDescription object;
  object.engine = engine_->descriptor();
  const Result<std::vector<Metadata::Run>> runs = describe(layouts, tensors.size(), [&](std::size_t i) { return tensors[i].layout; });
  Status outcome = runs.status();
  if (outcome.is_ok()) outcome = check_tensors(layouts, tensors);
  if (outcome.is_ok()) outcome = engine_->check();
  PlacedTensors placed;
  if (outcome.is_ok()) {
    const Deadline deadline = Deadline::in(seconds_to_duration(engine_->options().publish_timeout_s));
    Result<PlacedTensors> result = place_tensors(*engine_, tensors, std::move(owner), ops, deadline);
    outcome = result.status();
    if (outcome.is_ok()) placed = *std::move(result);
  } else {
    engine_->reaper().drop(std::move(owner));
  }
  if (outcome.is_ok()) {
    memory::SlotContent content;
    content.ranges = collect_ranges(placed.tensors);
    content.owner = std::move(placed.owner);
    const Result<Handle> handle = engine_->publish_slot(std::move(content), EngineImpl::SlotUse::kObject);
    outcome = handle.status();
    if (handle.is_ok()) object.handle = *handle;
  }
  object.error = outcome;
  if (runs.is_ok()) {  // else nothing can be said about the tensors
    object.layouts = layouts;
    object.runs = *runs;
  }
  if (outcome.is_ok()) object.placements = placed.placements;
  return encode_metadata(object);
}

Bytes ObjectsImpl::publish_error(std::span<const Layout> layouts, std::span<const std::uint32_t> layout_of, const Status& error) {
  ObjectDescription object;
  object.engine = engine_->descriptor();
  object.error = error.is_ok() ? Status(Code::kInternal, "an object was published as failed without an error") : error;
  const Result<std::vector<Metadata::Run>> runs = describe(layouts, layout_of.size(), [&](std::size_t i) { return layout_of[i]; });
  if (runs.is_ok()) {
    object.layouts = layouts;
    object.runs = *runs;
  }
  return encode_metadata(object);
}

bool ObjectsImpl::release(std::span<const std::byte> packed) {
  if (!engine_->check().is_ok()) return false;
  const Result<MetadataHead> head = decode_head(packed);
  if (!head.is_ok() || !std::ranges::equal(head->engine, engine_->descriptor())) return false;  // another engine's, or an earlier life's
  return engine_->retire_slot(head->handle, EngineImpl::SlotUse::kObject);
}

}  // namespace ray_hixl
