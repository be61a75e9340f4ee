// Slabs: recycled device memory. Blocks are carved out of slabs (best fit, neighbours merge when freed), which come from a SlabSource.
//
// A block dies on the host while work that uses it may still be queued on the device. So a freed block is *pending* at first: it becomes
// free only once a fence is passed that was set after it was freed. Addresses are never dereferenced here.
//
// Any thread. Two mutexes: a short one, all that a dying block takes (its thread may hold Python's GIL), and one that serialises looks at
// the fence and growth. While a fence or the source is asked, which may wait for the GIL, the short one is not held; so whoever may wait
// for the other one does not hold the GIL: allocate(), reserve() and close() are called without it. Nobody waits for the device with
// either. Blocks keep their Slabs alive, so they may die after the engine. In a forked child one that dies does nothing, and no new one is
// made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/deadline.h"
#include "memory/arena.h"
#include "ray_hixl/fence.h"
#include "ray_hixl/stats.h"
#include "ray_hixl/status.h"

namespace ray_hixl::device {

// Where slabs come from. One call at a time, with no lock held that a dying block needs; not called in a forked child.
class SlabSource {
 public:
  virtual ~SlabSource() = default;
  // Aligned to Slabs::kAlignment. `bytes` is a multiple of Slabs::kGranule. After kOutOfMemory a smaller slab may be asked for.
  [[nodiscard]] virtual Result<std::byte*> take(std::uint64_t bytes) = 0;
  // Of a slab whose blocks are all dead. Work queued on the device may still use them: the source waits for that. After Slabs::close() it
  // is called by the thread in which the last block of the slab died, which may hold the GIL.
  virtual void give_back(std::byte* address, std::uint64_t bytes) noexcept = 0;
};

class Slabs : public std::enable_shared_from_this<Slabs> {
 public:
  static constexpr std::uint64_t kAlignment = 512;                   // of blocks, which take steps of it
  static constexpr std::uint64_t kGranule = std::uint64_t{2} << 20;  // slabs take steps of it

  [[nodiscard]] static std::shared_ptr<Slabs> create(std::unique_ptr<SlabSource> source, std::uint64_t first_bytes,
                                                     std::uint64_t cap_bytes);
  ~Slabs();
  Slabs(const Slabs&) = delete;
  Slabs& operator=(const Slabs&) = delete;

  // Out of free memory; else, if freed blocks are pending, out of what becomes free within a moment; else out of a new slab, as large as
  // all slabs together (the first: first_bytes), at least `bytes`, within the cap; else out of what becomes free until `deadline`.
  // `set_fence`: behind everything that was queued on the device. REQUIRES: bytes > 0. Without the GIL.
  // kOutOfMemory says how much was asked for, is in use and is the cap; kDeviceBusy that freed memory may still be used at the deadline. A
  // fence's or the source's error is returned.
  [[nodiscard]] Result<std::shared_ptr<const memory::Block>> allocate(std::uint64_t bytes, const SetFence& set_fence, Deadline deadline);
  // The same for each of these lengths: adds the blocks, which go back one by one, to `blocks`; side by side as far as free memory allows
  // (FreeRanges::fitting()). After an error those that there was room for are there.
  [[nodiscard]] Status allocate_each(std::span<const std::uint64_t> lengths, const SetFence& set_fence, Deadline deadline,
                                     memory::Blocks& blocks);
  // At least `bytes` in slabs altogether, in use or not; one slab is added if needed. Without the GIL. kOutOfMemory beyond the cap.
  [[nodiscard]] Status reserve(std::uint64_t bytes);

  // The blocks that ever died.
  [[nodiscard]] std::uint64_t freed_ticket() const;
  // True as soon as a block has been freed since the ticket was taken; false once `deadline` passed or the slabs were closed.
  [[nodiscard]] bool wait_until_freed(std::uint64_t ticket, Deadline deadline) const;

  [[nodiscard]] bool holds(const std::byte* address, std::uint64_t length) const;  // inside one slab?
  [[nodiscard]] ArenaStats stats() const;                                          // segments are slabs; pending blocks are not in use

  // No more allocations (kClosed). Slabs without live blocks went back when this returns, others go with their last block. Waits for calls
  // of the source under way: without the GIL, and not from one of them.
  void close();

 private:
  struct Impl;
  explicit Slabs(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ray_hixl::device
