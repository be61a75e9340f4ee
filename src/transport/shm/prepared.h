// Prepared: what is copied for a share, out of the owner's mapped segments.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "transport/mappings.h"
#include "transport/pull.h"

namespace ray_hixl::transport::shm {

using Views = std::map<std::uint32_t, View>;  // by the segments' ids

// Immutable. Of use for as long as its segments are mapped: one that its owner gave back is let go of, whoever still has this.
struct Prepared {
  std::vector<std::weak_ptr<const memory::SegmentView>> views;
  std::shared_ptr<const Copies> copies;

  // Keeps the views. Null if one was let go of.
  [[nodiscard]] std::shared_ptr<const void> hold() const;
};

// What the share keeps; null if nothing yet.
[[nodiscard]] std::shared_ptr<const Prepared> prepared_of(const Share& share);

// For each piece the index of the share's segment that holds all of it. kInternal if there is none.
[[nodiscard]] Result<std::vector<std::size_t>> find_segments(const Share& share);
// The ids of those.
[[nodiscard]] std::set<std::uint32_t> ids_of(const Share& share, const std::vector<std::size_t>& segment_of);
// Out of `views`, which has all of them; the share keeps it. kInternal if one is not as long as the peer said.
[[nodiscard]] Result<std::shared_ptr<const Prepared>> prepare(const Share& share, const std::vector<std::size_t>& segment_of,
                                                              const Views& views, const Puller& puller);

}  // namespace ray_hixl::transport::shm
