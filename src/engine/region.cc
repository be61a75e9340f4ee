#include "control/descriptor.h"
#include "engine/region_impl.h"

namespace ray_hixl {

void RegionImpl::close() {
  if (closed_.exchange(true)) return;
  if (const auto engine = engine_.lock()) engine->retire_slot(described_.handle, EngineImpl::SlotUse::kRegion);
}

bool RegionImpl::is_open() const {
  if (closed_) return false;
  const auto engine = engine_.lock();
  return engine && engine->check().is_ok() && engine->slots().live(described_.handle);
}

MemoryRange Region::range() const { return impl_->range(); }
Bytes Region::descriptor() const { return control::encode(impl_->described()); }
bool Region::is_open() const { return impl_->is_open(); }
void Region::close() const { impl_->close(); }
bool Region::wait_unused(std::chrono::nanoseconds timeout) const { return impl_->wait_unused(deadline_in(timeout)); }

}  // namespace ray_hixl
