// Destinations: where the tensors of a fetch go, and the plan that brings them there.
//
// New memory comes out of the landing arena: a block of its own for a large tensor, blocks shared by small ones, bounded so that one small
// tensor that lives long keeps little else. Allocating may fault pages in, so it never happens on the loop thread.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/arena.h"
#include "ray_hixl/objects.h"
#include "ray_hixl/status.h"
#include "transport/job.h"

namespace ray_hixl {

inline constexpr std::uint64_t kOwnBlockBytes = std::uint64_t{1} << 20;     // from here on a tensor has a block of its own
inline constexpr std::uint64_t kSharedBlockBytes = std::uint64_t{8} << 20;  // no shared block is larger
inline constexpr std::uint64_t kTensorAlignment = 64;                       // of tensors in a shared block

struct Destinations {
  std::vector<FetchedTensor> tensors;  // in published order
  std::shared_ptr<const void> holds;   // keeps all their memory
};
[[nodiscard]] Result<Destinations> allocate_destinations(const Metadata& metadata, memory::Arena& arena);
// The caller's memory. kInvalidArgument names the first target that does not fit; kNotAvailable for device memory.
[[nodiscard]] Result<Destinations> use_targets(const Metadata& metadata, std::span<const MemoryRange> targets,
                                               std::shared_ptr<const void> owner);

// One piece per tensor that has bytes.
[[nodiscard]] std::shared_ptr<const transport::Plan> make_plan(const Metadata& metadata, const Destinations& destinations);

}  // namespace ray_hixl
