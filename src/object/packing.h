// Packing: where published tensors lie in the end. Host tensors and device tensors that peers can read stay where they are; other device
// tensors are copied behind each other into one block of a slab, so that an object of thousands of them moves in a few long pieces. With
// Options::publish "snapshot" nothing stays: all host tensors are copied, too (object/snapshot.h).
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
  std::shared_ptr<const void> owner;  // keeps all of the memory; of a snapshot nothing but its blocks
};
// What was queued before on the streams of `ops` is done when this returns; kDeviceBusy at the deadline. `ops` null: the runtime's own. On
// failure, and once a snapshot was taken, the owner goes to the reaper.
[[nodiscard]] Result<PlacedTensors> place_tensors(EngineImpl& engine, std::span<const SourceTensor> tensors,
                                                  std::shared_ptr<const void> owner, DeviceOps* ops, Deadline deadline);

}  // namespace ray_hixl
