// Encoding of an object's metadata. Metadata (objects.h) is the decoded form; the bytes are in docs/protocol.md, "Object metadata".
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "object/layout.h"
#include "ray_hixl/objects.h"

namespace ray_hixl {

// Consecutive tensors of one layout become one run.
void append_tensor(std::vector<Metadata::Run>& runs, std::uint32_t layout);

// What metadata says. Views: valid while encode_metadata() runs.
struct ObjectDescription {
  ByteView engine;  // the source engine's descriptor
  Handle handle;    // none (generation 0) if there is an error
  std::span<const Layout> layouts;
  std::span<const Metadata::Run> runs;
  Status error;
  std::span<const Metadata::Placement> placements;  // none if there is an error
};
// REQUIRES: check_layouts(), check_runs() and check_placements() accept the description. Of a long error message the first 4096 bytes
// travel.
[[nodiscard]] Bytes encode_metadata(const ObjectDescription& object);

// The part at the front, for those who need no layouts.
struct MetadataHead {
  ByteView engine;  // a view into the input
  Handle handle;
};
[[nodiscard]] Result<MetadataHead> decode_head(ByteView packed);

}  // namespace ray_hixl
