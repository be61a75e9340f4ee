// SlotTable: every region and object of an engine, by slot. A slot's generation tells whether a handle is still good.
//
// Generations are 64-bit counters in a sealed memfd (SHRINK, GROW, FUTURE_WRITE): the owner stores, peers on the host map it read-only
// and load. Odd = live, even = free; a slot is reused with the next odd value, so a handle can never become good again. Retiring is one
// atomic store; what the slot held is let go afterwards, when the last pin is gone, on the reaper. The word behind the last slot tells
// whether the engine itself has ended, so that a reader who sees its memory retired, and not yet that the connection ended, knows why.
// Any thread may call any method. A forked child shares the generations and must not change them: there, nothing is published or retired.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/fd.h"
#include "memory/reaper.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"

namespace ray_hixl::memory {

// What a slot holds. Its byte space, in which peers address it, is the concatenation of its ranges.
struct SlotContent {
  std::vector<MemoryRange> ranges;
  bool remote_write = false;
  std::shared_ptr<const void> owner;  // keeps the ranges' memory; may be null

  // Set by measure(), and so in everything that was published.
  std::uint64_t length = 0;           // bytes in all ranges
  std::vector<std::uint64_t> starts;  // of each range in the byte space
  bool has_device_memory = false;

  // Once, when the ranges are there, so that no read of a few bytes goes through all of them. kInvalidArgument if the lengths overflow.
  [[nodiscard]] Status measure();
};

// The range that holds a byte of such a space, behind ranges of no length that start there, too. REQUIRES: offset < the space's length.
[[nodiscard]] std::size_t range_at(std::span<const std::uint64_t> starts, std::uint64_t offset);

class SlotTable {
 public:
  static constexpr std::uint32_t kCapacity = (1u << 20) - 1;

  // At most `limit` slots are live at a time. REQUIRES: the reaper outlives the table; limit <= kCapacity.
  [[nodiscard]] static Result<std::unique_ptr<SlotTable>> create(Reaper& reaper, std::uint32_t limit = kCapacity);
  ~SlotTable();
  SlotTable(const SlotTable&) = delete;
  SlotTable& operator=(const SlotTable&) = delete;

  // kOutOfMemory when every slot is live; kInvalidArgument if the ranges' lengths overflow.
  [[nodiscard]] Result<Handle> publish(SlotContent content);
  // Before it returns, live() is false here and for every peer. Never blocks on an owner. False if the handle was not live.
  bool retire(const Handle& handle);
  // The content, kept alive until the pointer is dropped. kInvalidRegion if the handle is unknown, stale or has the wrong key (the message
  // says which without telling keys). A pin does not keep the slot live: check live() after the bytes were read.
  [[nodiscard]] Result<std::shared_ptr<const SlotContent>> pin(const Handle& handle) const;
  [[nodiscard]] bool live(const Handle& handle) const;
  [[nodiscard]] std::uint32_t live_slots() const;
  // Retires everything: the engine has ended. Nothing can be published afterwards (kClosed).
  void end();
  // To pass to peers of the same uid on this host. Without a descriptor where there are no memfds.
  [[nodiscard]] const Fd& generations() const;

 private:
  struct Impl;
  explicit SlotTable(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A peer's generations, mapped read-only.
class GenerationView {
 public:
  // Checks seals and size before mapping: kInvalidArgument if they are not what a SlotTable makes.
  [[nodiscard]] static Result<std::shared_ptr<const GenerationView>> map(const Fd& fd);
  ~GenerationView();
  GenerationView(const GenerationView&) = delete;
  GenerationView& operator=(const GenerationView&) = delete;

  // True: what was read through the handle before the call is what it stands for. False also for a slot out of range.
  [[nodiscard]] bool live(const Handle& handle) const;
  // Whether the peer's engine has ended. True before any slot of it is seen to be retired by that.
  [[nodiscard]] bool ended() const;

 private:
  explicit GenerationView(const void* base) : base_(base) {}
  const void* base_;
};

}  // namespace ray_hixl::memory
