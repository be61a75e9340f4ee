// RegionImpl: what the copies of a Region share.
//
// It does not keep its engine open: memory that the engine holds may in turn hold a Region. The slot is retired once, by close() or by the
// last copy. Any thread may call any method.
#pragma once

#include <atomic>
#include <memory>

#include "base/thread.h"
#include "engine/engine_impl.h"
#include "engine/pending.h"
#include "ray_hixl/engine.h"

namespace ray_hixl {

class RegionImpl {
 public:
  // `block`: the arena memory behind allocate(), which lives as long as a copy of the Region even after close(). Else null.
  // `unused` is set when the slot's content is gone.
  RegionImpl(const std::shared_ptr<EngineImpl>& engine, const RemoteRegion& described, const MemoryRange& range,
             std::shared_ptr<const void> block, std::shared_ptr<Pending<bool>> unused)
      : engine_(engine), described_(described), range_(range), block_(std::move(block)), unused_(std::move(unused)) {}
  ~RegionImpl() { close(); }
  RegionImpl(const RegionImpl&) = delete;
  RegionImpl& operator=(const RegionImpl&) = delete;

  void close();
  // False in a forked child, where nobody would ever set it.
  [[nodiscard]] bool wait_unused(Deadline deadline) const { return !process_.in_child() && unused_->wait(deadline).has_value(); }
  [[nodiscard]] bool is_open() const;
  [[nodiscard]] const MemoryRange& range() const { return range_; }
  // As peers see it.
  [[nodiscard]] const RemoteRegion& described() const { return described_; }

 private:
  const ProcessGuard process_;
  const std::weak_ptr<EngineImpl> engine_;
  const RemoteRegion described_;
  const MemoryRange range_;
  const std::shared_ptr<const void> block_;
  const std::shared_ptr<Pending<bool>> unused_;
  std::atomic<bool> closed_{false};
};

}  // namespace ray_hixl
