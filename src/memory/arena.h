// Arena: recycled memory in segments. Copying into recycled memory is several times faster than into fresh pages.
//
// Blocks are carved out of segments (best fit, neighbours merge when freed). A segment larger than a request serves many; an empty segment
// is kept while the arena maps at most `keep_bytes`, and kIdleBytes once it is idle, else given back. Any thread. Blocks keep the arena
// alive, so they may die after the engine.
//
// A forked child can read and write blocks that lived at the fork; their pages are the parent's, too, so each sees what the other writes.
// What it reads is never overwritten by anything else: memory that was live at a fork is not used again. It counts as retained until its
// segment has no live block any more, and goes with the segment (the child keeps its own mapping). Where more than `keep_bytes` are
// retained, new blocks are private memory, in no segment. In the child a block that dies does nothing, and no new one is made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "memory/segment.h"
#include "ray_hixl/stats.h"
#include "ray_hixl/status.h"

namespace ray_hixl::memory {

// Memory out of an arena; goes back when the last pointer to it dies.
struct Block {
  std::byte* address = nullptr;
  std::uint64_t length = 0;  // as asked for
};
using Blocks = std::vector<std::shared_ptr<const Block>>;

struct SegmentInfo {
  std::uint32_t id = 0;
  std::uint64_t base = 0;    // address in the owner
  std::uint64_t length = 0;  // bytes
};

class Arena : public std::enable_shared_from_this<Arena> {
 public:
  // Called after a segment was given back, with no lock held: peers that mapped it should let it go.
  using Retired = std::function<void(std::uint32_t segment)>;

  // Called, with no lock held, when the arena begins to have more empty memory than it keeps while it is idle: somebody should call
  // look_for_idleness() after a while.
  using Surplus = std::function<void()>;

  // Of empty segments, once nothing was taken for a while.
  static constexpr std::uint64_t kIdleBytes = std::uint64_t{8} << 20;

  // Drops an object on another thread, or now where none runs any more.
  using DropElsewhere = std::function<void(std::shared_ptr<const void>)>;

  // Where a block dies on an event loop (base/thread.h), it counts as free at once, and what that leaves to unmap goes `elsewhere`, since
  // that takes long. Null: it is unmapped on the spot.
  [[nodiscard]] static std::shared_ptr<Arena> create(ArenaKind kind, std::uint64_t keep_bytes, DropElsewhere elsewhere = nullptr);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Aligned to kAlignment, in steps of it: a cache line, so that thousands of small tensors take little more than their bytes, and none
  // slows its neighbours down. Private memory is in whole pages. REQUIRES: bytes > 0. kOutOfMemory says how much was asked for and mapped.
  static constexpr std::uint64_t kAlignment = 64;
  [[nodiscard]] Result<std::shared_ptr<const Block>> allocate(std::uint64_t bytes);
  // A block for each length, that goes back by itself; side by side as far as free memory allows (FreeRanges::fitting()). All or none.
  [[nodiscard]] Result<Blocks> allocate_each(std::span<const std::uint64_t> lengths);
  // The segment that holds this address; none for private memory.
  [[nodiscard]] std::optional<SegmentInfo> find(const void* address) const;
  // A descriptor of a live segment, to pass to a peer. kInvalidRegion if it was given back.
  [[nodiscard]] Result<Fd> segment_fd(std::uint32_t id) const;
  void set_retired(Retired retired);  // null to stop; waits for calls under way, so not from the callback itself
  void set_surplus(Surplus surplus);  // likewise
  // Where no block was taken since the last call, or since Surplus was called, empty segments go back as far as the arena maps more than
  // kIdleBytes. True: ask again after a while, there is surplus still; false: Surplus will be called.
  bool look_for_idleness();
  [[nodiscard]] ArenaStats stats() const;

 private:
  struct Impl;
  explicit Arena(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ray_hixl::memory
