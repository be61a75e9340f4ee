#include "ray_hixl/objects.h"

#include "object/fetch_impl.h"
#include "object/objects_impl.h"

namespace ray_hixl {

Result<Objects> Objects::create(const Engine& engine) {
  RAY_HIXL_RETURN_IF_ERROR(engine.impl()->check());
  return Objects(std::make_shared<ObjectsImpl>(engine.impl()));
}

Status Objects::check() const { return impl_->check(); }

Bytes Objects::publish(std::span<const Layout> layouts, std::span<const SourceTensor> tensors, std::shared_ptr<const void> owner,
                       DeviceOps* ops) const {
  return impl_->publish(layouts, tensors, std::move(owner), ops);
}

Bytes Objects::publish_error(std::span<const Layout> layouts, std::span<const std::uint32_t> layout_of, const Status& error) const {
  return impl_->publish_error(layouts, layout_of, error);
}

Fetch Objects::fetch(std::span<const std::byte> packed, std::span<const MemoryRange> targets, std::shared_ptr<const void> targets_owner,
                     std::chrono::nanoseconds timeout, DeviceOps* ops, const LandingWish& wish) const {
  return Fetch(impl_->fetch(packed, targets, std::move(targets_owner), timeout, ops, wish));
}

bool Objects::release(std::span<const std::byte> packed) const { return impl_->release(packed); }

}  // namespace ray_hixl
