// Destinations: where the tensors of a fetch go, and the plan that brings them there.
//
// New memory comes out of the landing arena, or out of a device's slabs: a block of its own for each tensor, but blocks of at most
// kOwnBlockBytes that small neighbours share, so that one that lives long keeps little else. The blocks lie side by side as far as there is
// room. Allocating may fault pages in, so it never happens on the loop thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "memory/arena.h"
#include "ray_hixl/objects.h"
#include "ray_hixl/status.h"
#include "transport/job.h"

namespace ray_hixl {

// From here on a tensor has a block of its own, and no shared block is larger. So a tensor that is kept keeps at most this much, or its own
// bytes in steps of the arena's or the slabs' alignment. A lower one costs more blocks, a higher one keeps more.
inline constexpr std::uint64_t kOwnBlockBytes = std::uint64_t{32} << 10;

struct Destinations {
  std::vector<FetchedTensor> tensors;  // in published order
  std::shared_ptr<const void> holds;   // keeps all their memory
  bool pads = false;                   // see transport::Plan, as the next
  bool callers_memory = false;
};

// Where tensors of one of the source's devices come to.
struct Landing {
  std::int32_t device = 0;  // index as this process sees it; LandingWish::kHost: into the arena, and `allocate` is not called
  std::function<Result<memory::Blocks>(std::span<const std::uint64_t> lengths)> allocate;  // a block for each
};
using FindLanding = std::function<Result<Landing>(std::int32_t wished, std::int32_t source_device)>;

// Tensors without a placement go into the arena, others to where `find_landing` says for the tensor's wish in `wishes` (see
// LandingWish::of) and its device at the source. Its errors are returned. kInvalidArgument: as many wishes as tensors, or none.
[[nodiscard]] Result<Destinations> allocate_destinations(const Metadata& metadata, std::span<const std::int32_t> wishes,
                                                         memory::Arena& arena, const FindLanding& find_landing);
// kInvalidArgument names two that share bytes.
[[nodiscard]] Status check_apart(std::span<const MemoryRange> targets);
// The caller's memory. kInvalidArgument names the first target that does not fit, or two that share bytes.
[[nodiscard]] Result<Destinations> use_targets(const Metadata& metadata, std::span<const MemoryRange> targets,
                                               std::shared_ptr<const void> owner);

// One piece per tensor that has bytes; with the source's addresses where the metadata has them.
[[nodiscard]] std::shared_ptr<const transport::Plan> make_plan(const Metadata& metadata, const Destinations& destinations);

}  // namespace ray_hixl
