#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "engine/batch_impl.h"
#include "engine/region_impl.h"

namespace ray_hixl {
namespace {

using Pins = std::vector<std::shared_ptr<const memory::SlotContent>>;

Status invalid(std::string message) { return Status(Code::kInvalidRegion, std::move(message)); }

Status check_inside(std::uint64_t offset, std::uint64_t length, std::uint64_t size, const char* whose) {
  if (offset <= size && length <= size - offset) return Status::ok();
  return invalid(std::to_string(length) + " bytes at offset " + std::to_string(offset) + " do not lie inside the " + whose + " region of " +
                 std::to_string(size) + " bytes");
}

// Builds a batch op by op. Regions are checked when they first occur; consecutive ops mostly name the same ones.
class BatchBuilder {
 public:
  BatchBuilder(EngineImpl& engine, const Incarnation& owner, std::size_t ops) : engine_(engine), owner_(owner) {
    plan_->pieces.reserve(ops);
    batch_->reader = engine.self();
    batch_->owner = owner;
    batch_->ops = ops;
  }

  [[nodiscard]] Status add(const Region& local, std::uint64_t local_offset, const RemoteRegion& remote, std::uint64_t remote_offset,
                           std::uint64_t length) {
    RAY_HIXL_RETURN_IF_ERROR(use_local(local));
    RAY_HIXL_RETURN_IF_ERROR(use_source(remote));
    ++op_;
    const MemoryRange& range = local.impl()->range();
    RAY_HIXL_RETURN_IF_ERROR(check_inside(local_offset, length, range.length, "local"));
    RAY_HIXL_RETURN_IF_ERROR(check_inside(remote_offset, length, remote.length, "remote"));
    if (length == 0) return Status::ok();
    plan_->pieces.push_back({range.address + local_offset, remote_offset, length, 0, source_, place_of(range, remote)});
    plan_->bytes += length;
    return Status::ok();
  }

  [[nodiscard]] Batch finish() {
    plan_->callers_memory = true;
    plan_->holds.set(std::make_shared<const Pins>(std::move(pins_)));
    batch_->plan = engine_.reaper().off_loop(std::move(plan_));
    return Batch(std::move(batch_));
  }

 private:
  Status use_local(const Region& local) {
    const RegionImpl& region = *local.impl();
    if (&region == last_local_) return Status::ok();
    if (locals_.contains(&region)) {
      last_local_ = &region;
      return Status::ok();
    }
    const RemoteRegion& described = region.described();
    if (described.owner != engine_.self()) return invalid("the local region belongs to another engine");
    Result<std::shared_ptr<const memory::SlotContent>> pin = engine_.slots().pin(described.handle);
    if (pin.status().code() == Code::kInvalidRegion) {
      return invalid("the local region was closed: register its memory again, and keep the new Region while reads use it");
    }
    if (!pin.is_ok()) return pin.status();
    pins_.push_back(*std::move(pin));
    batch_->locals.push_back(local);
    locals_.insert(&region);
    last_local_ = &region;
    return Status::ok();
  }

  Status use_source(const RemoteRegion& remote) {
    if (remote.owner != owner_) return invalid("the remote region belongs to another engine than this peer, or to an earlier life of it");
    if (!plan_->sources.empty() && plan_->sources[source_] == remote.handle) return Status::ok();
    const auto [found, added] = sources_.try_emplace(remote.handle, static_cast<std::uint32_t>(plan_->sources.size()));
    if (added) {
      plan_->sources.push_back(remote.handle);
      plan_->first_op.push_back(op_);
    }
    source_ = found->second;
    return Status::ok();
  }

  // The owner tells the addresses.
  std::int32_t place_of(const MemoryRange& local, const RemoteRegion& remote) {
    const bool on_device = local.kind == MemoryKind::kDevice;
    const bool from_device = remote.kind == MemoryKind::kDevice;
    const bool is_known = local.kind != MemoryKind::kHost && remote.kind != MemoryKind::kHost && !(on_device && from_device);
    if (!on_device && !from_device && !is_known) return -1;
    const transport::DevicePlace place{on_device ? local.device : -1, -1, 0, on_device != from_device, is_known ? local.device : -1};
    auto& places = plan_->places;
    const auto known = std::ranges::find(places, place);
    if (known != places.end()) return static_cast<std::int32_t>(known - places.begin());
    places.push_back(place);
    return static_cast<std::int32_t>(places.size() - 1);
  }

  EngineImpl& engine_;
  const Incarnation owner_;
  std::shared_ptr<BatchImpl> batch_ = std::make_shared<BatchImpl>();
  std::shared_ptr<transport::Plan> plan_ = std::make_shared<transport::Plan>();
  Pins pins_;
  std::unordered_set<const RegionImpl*> locals_;
  std::unordered_map<Handle, std::uint32_t> sources_;
  const RegionImpl* last_local_ = nullptr;
  std::uint32_t source_ = 0;
  std::size_t op_ = 0;  // that is being added
};

std::string op_name(std::size_t index) { return "op " + std::to_string(index); }

Status bad_op(std::size_t index, const std::string& what) { return Status(Code::kInvalidArgument, op_name(index) + ": " + what); }

Status check_sizes(const BatchArrays& ops) {
  const std::size_t count = ops.length.size();
  for (const auto& array : {ops.local_index, ops.local_offset, ops.remote_index, ops.remote_offset}) {
    if (array.size() == count) continue;
    return Status(Code::kInvalidArgument, "the arrays of a batch must have the same length, but there are " + std::to_string(count) +
                                              " lengths and an array of " + std::to_string(array.size()));
  }
  return Status::ok();
}

Status check_index(std::size_t op, std::int64_t index, std::size_t size, const char* whose) {
  if (index >= 0 && static_cast<std::uint64_t>(index) < size) return Status::ok();
  return bad_op(op, "there is no " + std::string(whose) + " region " + std::to_string(index) + " among " + std::to_string(size));
}

// REQUIRES: check_sizes().
Status check_numbers(const BatchArrays& ops, std::size_t op) {
  RAY_HIXL_RETURN_IF_ERROR(check_index(op, ops.local_index[op], ops.locals.size(), "local"));
  RAY_HIXL_RETURN_IF_ERROR(check_index(op, ops.remote_index[op], ops.remotes.size(), "remote"));
  if (ops.local_offset[op] >= 0 && ops.remote_offset[op] >= 0 && ops.length[op] >= 0) return Status::ok();
  return bad_op(op, "offsets and lengths must not be negative");
}

}  // namespace

Result<Batch> prepare_batch(EngineImpl& engine, const Incarnation& owner, std::span<const BatchOp> ops) {
  BatchBuilder builder(engine, owner, ops.size());
  for (std::size_t i = 0; i < ops.size(); ++i) {
    const BatchOp& op = ops[i];
    const Status added = builder.add(op.local, op.local_offset, op.remote, op.remote_offset, op.length);
    if (!added.is_ok()) return added.with_context(op_name(i));
  }
  return builder.finish();
}

Result<Batch> prepare_batch(EngineImpl& engine, const Incarnation& owner, const BatchArrays& ops) {
  RAY_HIXL_RETURN_IF_ERROR(check_sizes(ops));
  BatchBuilder builder(engine, owner, ops.length.size());
  for (std::size_t i = 0; i < ops.length.size(); ++i) {
    RAY_HIXL_RETURN_IF_ERROR(check_numbers(ops, i));
    const Status added =
        builder.add(ops.locals[static_cast<std::size_t>(ops.local_index[i])], static_cast<std::uint64_t>(ops.local_offset[i]),
                    ops.remotes[static_cast<std::size_t>(ops.remote_index[i])], static_cast<std::uint64_t>(ops.remote_offset[i]),
                    static_cast<std::uint64_t>(ops.length[i]));
    if (!added.is_ok()) return added.with_context(op_name(i));
  }
  return builder.finish();
}

std::uint64_t Batch::bytes() const { return impl_->plan->bytes; }
std::size_t Batch::size() const { return impl_->ops; }

}  // namespace ray_hixl
