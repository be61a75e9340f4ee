// Packing: where published tensors lie in the end. Host tensors and device tensors that peers can read stay where they are; other device
// tensors are copied behind each other into one block of a slab, so that an object of thousands of them moves in a few long pieces.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/engine_impl.h"
#include "ray_hixl/objects.h"
#include "ray_hixl/status.h"

namespace ray_hixl {

struct PlacedTensors {
  std::vector<SourceTensor> tensors;  // as given, at their last addresses
  std::vector<Metadata::Placement> placements;
  std::shared_ptr<const void> owner;  // keeps all of the memory
};
// What was queued before on the streams of `ops` is done when this returns; kDeviceBusy at the deadline. `ops` null: the runtime's own. On
// failure the owner goes to the reaper.
[[nodiscard]] Result<PlacedTensors> place_tensors(EngineImpl& engine, std::span<const SourceTensor> tensors,
                                                  std::shared_ptr<const void> owner, DeviceOps* ops, Deadline deadline);

}  // namespace ray_hixl
