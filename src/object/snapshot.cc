#include "object/snapshot.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/pending.h"
#include "object/tensor_blocks.h"
#include "transport/copies.h"
#include "transport/mover.h"

namespace ray_hixl {
namespace {

// All of a snapshot goes at once, so that tensors may share more than where each goes by itself. A smaller block fills more gaps of the
// arena, a larger one costs less.
constexpr std::uint64_t kSnapshotBlockBytes = std::uint64_t{1} << 20;

class SnapshotWork final : public memory::CopyWork {
 public:
  explicit SnapshotWork(transport::Copies copies) : copies_(std::move(copies)) {}
  [[nodiscard]] std::size_t parts() const override { return copies_.parts(); }
  bool run(std::size_t part) override { return mover_->move(copies_.part(part)).is_ok(); }
  void finished() override { finished_.set(true); }
  void wait() { (void)finished_.wait(Deadline::never()); }  // the pool ends what it has begun, also while the engine is closed

 private:
  const transport::Copies copies_;
  const std::shared_ptr<transport::Mover> mover_ = transport::memory_mover(nullptr, copies_.bytes());
  Pending<bool> finished_;
};

Status copy_all(memory::CopyPool& pool, std::vector<transport::Copy> whole) {
  transport::Copies copies(std::move(whole), pool.threads());
  if (copies.is_little()) return copies.parts() == 0 ? Status::ok() : transport::CacheMover(nullptr).move(copies.part(0));
  const auto work = std::make_shared<SnapshotWork>(std::move(copies));
  RAY_HIXL_RETURN_IF_ERROR(pool.submit(work));
  work->wait();
  return Status::ok();
}

// Which bytes go where, before there is any memory for them.
class SnapshotPlan {
 public:
  void add(SourceTensor& tensor) {
    const auto [known, is_new] = longest_at_.try_emplace(tensor.range.address, moves_.size());
    if (!is_new && moves_[known->second].tensor->range.length >= tensor.range.length) {
      moves_.push_back({&tensor, moves_[known->second].place, false});
    } else {
      known->second = moves_.size();
      moves_.push_back({&tensor, blocks_.place(tensor.range.length), true});
    }
  }

  Result<memory::Blocks> carry_out(memory::Arena& arena, memory::CopyPool& pool) {
    if (moves_.empty()) return memory::Blocks();
    Result<memory::Blocks> blocks = arena.allocate_each(blocks_.lengths());
    if (!blocks.is_ok()) return blocks.status().with_context("a snapshot takes memory, which publish=\"alias\" does not");
    const auto address_of = [&](const Move& move) { return (*blocks)[move.place.block]->address + move.place.offset; };
    std::vector<transport::Copy> copies;
    copies.reserve(moves_.size());
    for (const Move& move : moves_) {
      const MemoryRange& from = move.tensor->range;
      if (move.is_copied) copies.push_back({address_of(move), reinterpret_cast<std::uint64_t>(from.address), from.length});
    }
    RAY_HIXL_RETURN_IF_ERROR(copy_all(pool, std::move(copies)));
    for (const Move& move : moves_) move.tensor->range = {address_of(move), move.tensor->range.length};
    return blocks;
  }

 private:
  struct Move {
    SourceTensor* tensor;
    TensorBlocks::Place place;
    bool is_copied;  // else its bytes are those of another one
  };
  TensorBlocks blocks_{kTensorAlignment, kSnapshotBlockBytes};
  std::vector<Move> moves_;
  std::unordered_map<const std::byte*, std::size_t> longest_at_;  // by address: the move of the tensor with most bytes there
};

}  // namespace

Result<memory::Blocks> take_snapshot(EngineImpl& engine, std::span<SourceTensor> tensors) {
  SnapshotPlan plan;
  for (SourceTensor& tensor : tensors) {
    if (tensor.range.kind != MemoryKind::kDevice && tensor.range.length != 0) plan.add(tensor);
  }
  return plan.carry_out(engine.source_arena(), engine.copy_pool());
}

}  // namespace ray_hixl
