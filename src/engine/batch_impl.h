// BatchImpl: ops that were checked, as the plan that a link carries out. Immutable; shared by Batch handles.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "engine/engine_impl.h"
#include "ray_hixl/engine.h"
#include "transport/job.h"

namespace ray_hixl {

class BatchImpl {
 public:
  Incarnation reader{};                         // the engine whose memory is written
  Incarnation owner{};                          // the peer that is read
  std::vector<Region> locals;                   // kept open by the batch, but may be closed by hand before it is submitted
  std::size_t ops = 0;                          // those without bytes included
  std::shared_ptr<const transport::Plan> plan;  // holds: pins of `locals`
};

// Checks each op: local region open and of this engine, remote region of `owner`, both host memory, both ranges inside. Errors name the op.
// Local ranges that overlap are accepted; what they hold afterwards is undefined.
[[nodiscard]] Result<Batch> prepare_batch(EngineImpl& engine, const Incarnation& owner, std::span<const BatchOp> ops);
[[nodiscard]] Result<Batch> prepare_batch(EngineImpl& engine, const Incarnation& owner, const BatchArrays& ops);

}  // namespace ray_hixl
