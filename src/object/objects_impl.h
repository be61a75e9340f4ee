// ObjectsImpl: what the copies of an Objects handle share: the engine, and nothing else. Objects live in the engine's slots.
//
// Any thread may call any method.
#pragma once

#include <memory>

#include "engine/engine_impl.h"
#include "ray_hixl/objects.h"

namespace ray_hixl {

class ObjectsImpl {
 public:
  explicit ObjectsImpl(std::shared_ptr<EngineImpl> engine) : engine_(std::move(engine)) {}

  [[nodiscard]] Status check() const { return engine_->check(); }
  [[nodiscard]] Bytes publish(std::span<const Layout> layouts, std::span<const SourceTensor> tensors, std::shared_ptr<const void> owner,
                              DeviceOps* ops);
  [[nodiscard]] Bytes publish_error(std::span<const Layout> layouts, std::span<const std::uint32_t> layout_of, const Status& error);
  [[nodiscard]] std::shared_ptr<FetchImpl> fetch(std::span<const std::byte> packed, std::span<const MemoryRange> targets,
                                                 std::shared_ptr<const void> targets_owner, std::chrono::nanoseconds timeout,
                                                 DeviceOps* ops, const LandingWish& wish);
  bool release(std::span<const std::byte> packed);

 private:
  [[nodiscard]] Status start_fetch(const std::shared_ptr<FetchImpl>& fetch, const Status& decoded, std::span<const MemoryRange> targets,
                                   std::shared_ptr<const void> targets_owner, DeviceOps* ops, const LandingWish& wish);

  const std::shared_ptr<EngineImpl> engine_;
};

}  // namespace ray_hixl
