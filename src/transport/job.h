// Job: one channel's share of a transfer. Plan: what a transfer reads, checked once and reusable.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "control/messages.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "transport/transfer_state.h"

namespace ray_hixl::transport {

// `length` bytes of a slot of the owner, and where they go here.
struct Piece {
  std::byte* local = nullptr;
  std::uint64_t offset = 0;   // into the byte space of the slot
  std::uint64_t length = 0;   // not 0
  std::uint64_t address = 0;  // the same bytes in the owner's memory; 0 where nobody asked (transports that read by handle)
  std::uint32_t source = 0;   // index into the handles
  std::int32_t place = -1;    // in device memory on one side or both: index into the places; negative: in host memory
};

// Up to so many are split, and let go of, wherever that happens to be; more of them not on the event loop. Handing them over costs a switch
// of threads, which for a few would be most of what a read takes.
inline constexpr std::size_t kFewPieces = 2048;

// Between which devices some pieces of a plan move.
struct DevicePlace {
  std::int32_t local = 0;    // device index here; negative: host memory
  std::int32_t remote = -1;  // device index at the owner; negative: the pieces' addresses are not known yet
  std::uint64_t epoch = 0;   // the owner's registration epoch from which on the addresses can be reached
  bool across = false;       // one side is host memory: then only `local` is looked at, but by HIXL
  std::int32_t hixl = -1;    // where host memory is pinned, and both sides known to HIXL: by which NPU here; negative: they are not
  [[nodiscard]] bool is_host() const { return hixl >= 0 && local < 0 && !across; }  // on both sides
  friend bool operator==(const DevicePlace&, const DevicePlace&) = default;
};

// A part of a plan that changes while others have the plan. Any thread.
class Kept {
 public:
  [[nodiscard]] std::shared_ptr<const void> get() const {
    const MutexLock lock(mutex_);
    return value_;
  }
  void set(std::shared_ptr<const void> value) {
    const MutexLock lock(mutex_);
    value_.swap(value);  // what was there dies after the lock
  }

 private:
  mutable Mutex mutex_;
  std::shared_ptr<const void> value_ RAY_HIXL_GUARDED_BY(mutex_);
};

// Immutable once shared, but for what is Kept. Where pieces overlap here, any of their bytes may stay.
struct Plan {
  std::vector<Handle> sources;
  std::vector<std::size_t> first_op;  // of a batch: the op that first names each source, for errors; else empty
  std::vector<Piece> pieces;          // address is 0, except in device memory where the owner told it
  std::vector<DevicePlace> places;
  std::uint64_t bytes = 0;
  // In device memory here: is what lies behind a piece, up to the next multiple of device::Slabs::kAlignment, nobody else's? Then it may
  // be written, too.
  bool pads = false;
  // Is the local memory the caller's own (targets, regions), which he uses again once the transfer has ended? Else it came out of an arena
  // for this plan, and a transfer that is stopped need not wait for those who still write.
  bool callers_memory = false;
  bool once = false;   // for one transfer only
  mutable Kept holds;  // keeps the local memory
  mutable Kept kept;   // what the link learned of the owner of `sources`, to find it again the next time; used by the link only

  // Nothing writes any more. The memory of a plan for one transfer is let go of now, whoever still has the plan, so that it can be used
  // again as soon as the transfer's end is seen, or as soon as the caller drops it.
  void let_go() const {
    if (once) holds.set(nullptr);
  }
};

// One channel's share of a plan. Immutable, but for what is Kept: for a plan that is read often it is made once.
struct Share {
  std::vector<Piece> pieces;
  std::vector<control::RemoteSegment> segments;  // the owner's source segments that hold some pieces (by address)
  // If its job ends with kNotAvailable or kConnectError, or with something unreadable, another channel gets the pieces.
  bool has_another_way = false;
  bool hosts_have_another_way = false;  // what lies in host memory on both sides, whatever of the rest
  mutable Kept kept;                    // what the channel made of it, to find it again the next time; used by such channels only
};

struct Job {
  std::shared_ptr<TransferState> transfer;
  std::shared_ptr<const Plan> plan;  // sources, holds
  std::shared_ptr<const Share> share;
  std::atomic<std::uint64_t> unreadable{0};  // an address of a piece, where the kernel does not read the owner's memory; 0: none is known
  // Called exactly once, by any thread, when nothing writes to the pieces' local memory for this job any more. Until then the plan's
  // `holds` keep that memory, even if the transfer has ended before (quarantine). Ok means that the sources were live after the last byte,
  // too, where the link does not see that itself.
  std::function<void(Status)> done;

  [[nodiscard]] const std::vector<Piece>& pieces() const { return share->pieces; }
  // REQUIRES: it was not called yet.
  void end(const Status& status) { std::exchange(done, nullptr)(status); }
};

}  // namespace ray_hixl::transport
