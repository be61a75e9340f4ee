#include "device/slabs.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/process_shared.h"
#include "base/round_up.h"
#include "base/thread.h"
#include "device/fences.h"
#include "memory/free_ranges.h"

namespace ray_hixl::device {
namespace {

constexpr std::uint64_t kMostOnDevice = std::uint64_t{1} << 62;  // far more than any device has, far from overflowing
constexpr int kFreedAtOnce = 256;                                // blocks, with the short mutex held
constexpr std::chrono::milliseconds kPatience{20};               // with the device, before more memory is taken

// REQUIRES: bytes <= kMostOnDevice.
// What it asks the device or its runtime may take long.
Status another_is_busy() { return {Code::kDeviceBusy, "another thread was getting device memory all the time"}; }

Status closed() { return {Code::kClosed, "the engine was closed: it has no device memory any more"}; }

}  // namespace

struct Slabs::Impl {
  struct Slab {
    std::uint64_t length = 0;
    std::uint32_t id = 0;
    std::uint64_t live = 0;  // blocks
  };
  using ByBase = std::map<std::byte*, Slab>;  // by its first byte
  struct Range {
    std::byte* address;
    std::uint64_t length;
  };
  struct Dead {
    Range range;
    std::uint32_t slab;
  };
  // Of blocks side by side; none if there is no address.
  struct Room {
    std::byte* address = nullptr;
    std::size_t blocks = 0;
  };
  using Lengths = std::span<const std::uint64_t>;  // multiples of kAlignment
  struct Lease;

  Impl(std::unique_ptr<SlabSource> from, std::uint64_t first, std::uint64_t cap)
      : source(std::move(from)), first_bytes(std::min(first, kMostOnDevice)), cap_bytes(std::min(cap, kMostOnDevice)) {}
  ~Impl();

  std::unique_ptr<SlabSource> source;
  const std::uint64_t first_bytes;
  const std::uint64_t cap_bytes;
  const ProcessGuard process;
  TimedMutex growing;   // held over looks at the fence and over take(); taken before `mutex`
  mutable Mutex mutex;  // the short one
  Condition idle;
  Condition changed;                                          // a block was freed, or the slabs were closed
  std::shared_ptr<Fence> fence RAY_HIXL_GUARDED_BY(growing);  // behind the work that may use what was freed until `fenced`; or null
  std::uint64_t fenced RAY_HIXL_GUARDED_BY(growing) = 0;
  bool is_closed RAY_HIXL_GUARDED_BY(mutex) = false;
  bool is_source_busy RAY_HIXL_GUARDED_BY(mutex) = false;
  ByBase slabs RAY_HIXL_GUARDED_BY(mutex);
  memory::FreeRanges free_ranges RAY_HIXL_GUARDED_BY(mutex);  // of all slabs
  std::deque<Dead> pending RAY_HIXL_GUARDED_BY(mutex);        // in the order in which they were freed
  std::uint64_t freed RAY_HIXL_GUARDED_BY(mutex) = 0;         // blocks that ever became pending
  std::vector<Range> leaving RAY_HIXL_GUARDED_BY(mutex);      // slabs to give back
  std::uint32_t next_slab RAY_HIXL_GUARDED_BY(mutex) = 1;
  ArenaStats stats RAY_HIXL_GUARDED_BY(mutex);

  ByBase::iterator slab_of(std::byte* address) RAY_HIXL_REQUIRES(mutex) { return std::prev(slabs.upper_bound(address)); }
  void count_taken(Slab& slab, memory::Run run) RAY_HIXL_REQUIRES(mutex);
  std::byte* adopt(Range slab, memory::Run taken) RAY_HIXL_REQUIRES(mutex);
  void bury(Range block) RAY_HIXL_REQUIRES(mutex);
  ByBase::iterator leave(ByBase::iterator slab) RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] bool free_some(std::uint64_t ticket) RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] Status no_room(std::uint64_t bytes) const RAY_HIXL_REQUIRES(mutex);

  // Those with the fence or the source hold `growing`, except for release() and close().
  [[nodiscard]] Result<Room> recycle(Lengths lengths);
  void free_until(std::uint64_t ticket);
  [[nodiscard]] Result<bool> reclaim(const SetFence& set_fence) RAY_HIXL_REQUIRES(growing);
  [[nodiscard]] Result<std::byte*> grow(std::uint64_t least, std::uint64_t wanted, memory::Run taken) RAY_HIXL_REQUIRES(growing);
  [[nodiscard]] Result<Room> add_slab(memory::Run run) RAY_HIXL_REQUIRES(growing);
  [[nodiscard]] bool could_fit(std::uint64_t bytes) const;
  [[nodiscard]] Result<Room> find_room(Lengths lengths, const SetFence& set_fence, Deadline deadline);
  [[nodiscard]] Status cannot_reserve(std::uint64_t bytes) const;
  void end_source_call() RAY_HIXL_EXCLUDES(mutex);
  void release(Range block);
  void close();
};

// What the pointer to a block keeps: the slabs, and the memory until the pointer dies.
struct Slabs::Impl::Lease {
  Lease(std::shared_ptr<Slabs> from, memory::Block lent, std::uint64_t taken) : slabs(std::move(from)), block(lent), length(taken) {}
  ~Lease() { slabs->impl_->release({block.address, length}); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const std::shared_ptr<Slabs> slabs;
  const memory::Block block;
  const std::uint64_t length;  // block.length, rounded up
};

void Slabs::Impl::count_taken(Slab& slab, memory::Run run) {
  slab.live += run.blocks;
  stats.used_bytes += run.bytes;
  stats.live_blocks += run.blocks;
  stats.allocations += run.blocks;
}

// A new slab, its first bytes taken.
std::byte* Slabs::Impl::adopt(Range slab, memory::Run taken) {
  const std::uint32_t id = next_slab++;
  ++stats.segments;
  stats.mapped_bytes += slab.length;
  Slab& added = slabs.emplace(slab.address, Slab{slab.length, id}).first->second;
  if (slab.length > taken.bytes) free_ranges.add(slab.address + taken.bytes, slab.length - taken.bytes, id);
  count_taken(added, taken);
  return slab.address;
}

// A block that died. Nothing becomes free after close(): then it is the whole slab that goes.
void Slabs::Impl::bury(Range block) {
  const ByBase::iterator slab = slab_of(block.address);
  --slab->second.live;
  stats.used_bytes -= block.length;
  --stats.live_blocks;
  if (!is_closed) {
    pending.push_back({block, slab->second.id});
    ++freed;
    changed.notify_all();
  } else if (slab->second.live == 0) {
    leave(slab);
  }
}

// The slab behind it.
Slabs::Impl::ByBase::iterator Slabs::Impl::leave(ByBase::iterator slab) {
  --stats.segments;
  stats.mapped_bytes -= slab->second.length;
  leaving.push_back({slab->first, slab->second.length});
  return slabs.erase(slab);
}

// Some of the blocks that were pending at the ticket; false when they were the last.
bool Slabs::Impl::free_some(std::uint64_t ticket) {
  for (int i = 0; i < kFreedAtOnce; ++i) {
    const std::uint64_t first = freed - pending.size() + 1;  // number of the first one that is pending
    if (pending.empty() || first > ticket) return false;
    const Dead& dead = pending.front();
    free_ranges.add(dead.range.address, dead.range.length, dead.slab);
    pending.pop_front();
  }
  return true;
}

Status Slabs::Impl::no_room(std::uint64_t bytes) const {
  std::uint64_t waiting = 0;
  for (const Dead& dead : pending) waiting += dead.range.length;
  return {Code::kOutOfMemory,
          "no room for " + std::to_string(bytes) + " bytes in device memory: " + std::to_string(stats.used_bytes) + " bytes are in use" +
              (waiting == 0 ? "" : " and " + std::to_string(waiting) + " were freed but may still be read by the device") +
              ", in slabs of " + std::to_string(stats.mapped_bytes) + " bytes, which may have at most " + std::to_string(cap_bytes) +
              " bytes altogether; raise slab_cap_bytes or hold fewer tensors"};
}

// What became due while the source was busy is given back here, so that no dying block ever waits for the source.
void Slabs::Impl::end_source_call() {
  MutexLock lock(mutex);
  while (!leaving.empty()) {
    const Range slab = leaving.back();
    leaving.pop_back();
    lock.unlock();
    source->give_back(slab.address, slab.length);
    lock.lock();
  }
  is_source_busy = false;
  idle.notify_all();
}

// None if no free memory is large enough.
Result<Slabs::Impl::Room> Slabs::Impl::recycle(Lengths lengths) {
  const MutexLock lock(mutex);
  if (is_closed) return closed();
  const memory::Run run = free_ranges.fitting(lengths);
  if (run.blocks == 0) return Room{};
  std::byte* const address = free_ranges.take(run.bytes).address;
  count_taken(slab_of(address)->second, run);
  stats.recycled += run.blocks;
  return Room{address, run.blocks};
}

void Slabs::Impl::free_until(std::uint64_t ticket) {
  while (true) {  // in steps, so that a dying block never waits for all of them
    const MutexLock lock(mutex);
    if (!free_some(ticket)) return;
  }
}

// What the device is done with becomes free. True if there is more that it may still use.
Result<bool> Slabs::Impl::reclaim(const SetFence& set_fence) {
  if (!fence) {
    MutexLock lock(mutex);
    if (pending.empty()) return false;
    fenced = freed;
    lock.unlock();
    Result<std::shared_ptr<Fence>> set = set_fence();
    if (!set.is_ok()) return set.status();
    fence = *std::move(set);
  }
  const Result<bool> passed = fence->passed();
  if (passed.is_ok() && !*passed) return true;
  fence = nullptr;
  if (!passed.is_ok()) return passed.status();
  free_until(fenced);
  const MutexLock lock(mutex);
  return !pending.empty();
}

// The first byte of a new slab, of which `taken` bytes are taken. Null if the cap leaves no room for `least` bytes.
Result<std::byte*> Slabs::Impl::grow(std::uint64_t least, std::uint64_t wanted, memory::Run taken) {
  MutexLock lock(mutex);
  if (is_closed) return closed();
  const std::uint64_t room = cap_bytes / kGranule * kGranule - stats.mapped_bytes;
  const std::uint64_t need = round_up(least, kGranule);
  if (need > room) return nullptr;
  Range slab{nullptr, std::clamp(round_up(wanted, kGranule), need, room)};
  is_source_busy = true;  // nobody else is: take() is called with `growing` held, and no slab goes back before close()
  lock.unlock();
  Result<std::byte*> base = source->take(slab.length);
  if (!base.is_ok() && base.status().code() == Code::kOutOfMemory && slab.length > need) {
    slab.length = need;
    base = source->take(need);
  }
  lock.lock();
  std::byte* address = nullptr;
  if (base.is_ok()) {
    slab.address = *base;
    if (is_closed) {
      leaving.push_back(slab);
    } else {
      address = adopt(slab, taken);
    }
  }
  lock.unlock();
  end_source_call();
  if (!base.is_ok()) return base.status().with_context("a new slab of " + std::to_string(slab.length) + " bytes of device memory");
  if (address == nullptr) return closed();
  return address;
}

Result<Slabs::Impl::Room> Slabs::Impl::add_slab(memory::Run run) {
  MutexLock lock(mutex);
  const std::uint64_t wanted = stats.mapped_bytes == 0 ? first_bytes : stats.mapped_bytes;
  lock.unlock();
  const Result<std::byte*> added = grow(run.bytes, wanted, run);
  if (!added.is_ok()) return added.status();
  if (*added != nullptr) return Room{*added, run.blocks};
  lock.lock();
  return no_room(run.bytes);
}

// If everything that was freed were free?
bool Slabs::Impl::could_fit(std::uint64_t bytes) const {
  const MutexLock lock(mutex);
  return bytes <= stats.mapped_bytes - stats.used_bytes;
}

// A wait for the device may take as long as the call has, so it is made of looks, and between two of them others have their turn.
Result<Slabs::Impl::Room> Slabs::Impl::find_room(Lengths lengths, const SetFence& set_fence, Deadline deadline) {
  Result<Room> found = recycle(lengths);
  if (!found.is_ok() || found->blocks > 0) return found;
  const memory::Run run = memory::first_run(lengths);
  const Deadline patience = Deadline::in(kPatience);
  Status full;  // why no slab can be added
  for (Pauses pauses;; pauses.pause()) {
    if (!growing.try_lock_until(deadline)) return another_is_busy();
    const TimedLock one_at_a_time(growing);
    const bool is_last = deadline.passed();
    found = recycle(lengths);  // what another thread made free or added meanwhile
    if (!found.is_ok() || found->blocks > 0) return found;
    const Result<bool> waits = reclaim(set_fence);
    if (!waits.is_ok()) return waits.status();
    found = recycle(lengths);
    if (!found.is_ok() || found->blocks > 0) return found;
    if (!*waits || (full.is_ok() && (patience.passed() || is_last))) {
      found = add_slab(run);
      if (found.is_ok() || found.status().code() != Code::kOutOfMemory) return found;
      full = found.status();
    }
    if (full.is_ok()) continue;
    if (!*waits || !could_fit(run.bytes)) return full;
    if (is_last) return Status(Code::kDeviceBusy, full.message());
  }
}

Status Slabs::Impl::cannot_reserve(std::uint64_t bytes) const {
  return {Code::kOutOfMemory, std::to_string(bytes) + " bytes of device memory cannot be reserved: the slabs may have at most " +
                                  std::to_string(cap_bytes) + " bytes altogether, in steps of " + std::to_string(kGranule) +
                                  "; raise slab_cap_bytes or reserve less"};
}

void Slabs::Impl::release(Range block) {
  if (process.in_child()) return;  // the memory is the parent's
  MutexLock lock(mutex);
  bury(block);
  if (leaving.empty() || is_source_busy) return;  // whoever is busy with the source gives back what is left
  is_source_busy = true;
  lock.unlock();
  end_source_call();
}

void Slabs::Impl::close() {
  if (process.in_child()) return;
  MutexLock lock(mutex);
  is_closed = true;
  changed.notify_all();
  pending.clear();
  free_ranges = {};
  for (auto slab = slabs.begin(); slab != slabs.end();) slab = slab->second.live == 0 ? leave(slab) : std::next(slab);
  while (is_source_busy) idle.wait(lock);
  is_source_busy = true;
  lock.unlock();
  end_source_call();
}

// No block lives: each keeps its Slabs.
Slabs::Impl::~Impl() {
  if (process.in_child()) {
    (void)source.release();  // it is the parent's, too
  } else {
    close();
  }
}

std::shared_ptr<Slabs> Slabs::create(std::unique_ptr<SlabSource> source, std::uint64_t first_bytes, std::uint64_t cap_bytes) {
  return std::shared_ptr<Slabs>(new Slabs(std::make_unique<Impl>(std::move(source), first_bytes, cap_bytes)));
}

Slabs::Slabs(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Slabs::~Slabs() = default;

Result<std::shared_ptr<const memory::Block>> Slabs::allocate(std::uint64_t bytes, const SetFence& set_fence, Deadline deadline) {
  memory::Blocks blocks;
  RAY_HIXL_RETURN_IF_ERROR(allocate_each({&bytes, 1}, set_fence, deadline, blocks));
  return std::move(blocks.front());
}

Status Slabs::allocate_each(std::span<const std::uint64_t> lengths, const SetFence& set_fence, Deadline deadline, memory::Blocks& blocks) {
  RAY_HIXL_RETURN_IF_ERROR(impl_->process.check());
  std::vector<std::uint64_t> rounded;
  rounded.reserve(lengths.size());
  for (const std::uint64_t length : lengths) {
    if (length == 0) return {Code::kInvalidArgument, "a block of 0 bytes of device memory"};
    if (length > kMostOnDevice) return {Code::kOutOfMemory, "no device has " + std::to_string(length) + " bytes"};
    rounded.push_back(round_up(length, kAlignment));
  }
  for (std::size_t next = 0; next < lengths.size();) {
    const Result<Impl::Room> room = impl_->find_room(std::span(rounded).subspan(next), set_fence, deadline);
    if (!room.is_ok()) return room.status();
    std::byte* address = room->address;
    for (const std::size_t end = next + room->blocks; next < end; address += rounded[next++]) {
      const auto lease = make_process_shared<const Impl::Lease>(shared_from_this(), memory::Block{address, lengths[next]}, rounded[next]);
      blocks.emplace_back(lease, &lease->block);
    }
  }
  return Status::ok();
}

Status Slabs::reserve(std::uint64_t bytes) {
  RAY_HIXL_RETURN_IF_ERROR(impl_->process.check());
  if (!impl_->growing.try_lock_until(Deadline::never())) return another_is_busy();
  const TimedLock one_at_a_time(impl_->growing);
  MutexLock lock(impl_->mutex);
  if (impl_->is_closed) return closed();
  const std::uint64_t mapped = impl_->stats.mapped_bytes;
  lock.unlock();
  if (bytes <= mapped) return Status::ok();
  if (bytes > impl_->cap_bytes) return impl_->cannot_reserve(bytes);
  const Result<std::byte*> added = impl_->grow(bytes - mapped, mapped == 0 ? impl_->first_bytes : 0, {});
  if (!added.is_ok()) return added.status();
  return *added == nullptr ? impl_->cannot_reserve(bytes) : Status::ok();
}

std::uint64_t Slabs::freed_ticket() const {
  const MutexLock lock(impl_->mutex);
  return impl_->freed;
}

bool Slabs::wait_until_freed(std::uint64_t ticket, Deadline deadline) const {
  MutexLock lock(impl_->mutex);
  while (impl_->freed == ticket && !impl_->is_closed && impl_->changed.wait_until(lock, deadline)) {
  }
  return impl_->freed != ticket && !impl_->is_closed;
}

bool Slabs::holds(const std::byte* address, std::uint64_t length) const {
  auto* const first = const_cast<std::byte*>(address);
  const MutexLock lock(impl_->mutex);
  if (impl_->slabs.empty() || std::less<>()(first, impl_->slabs.begin()->first)) return false;
  const auto slab = impl_->slab_of(first);
  const auto offset = static_cast<std::uint64_t>(first - slab->first);
  return offset < slab->second.length && length <= slab->second.length - offset;
}

ArenaStats Slabs::stats() const {
  const MutexLock lock(impl_->mutex);
  return impl_->stats;
}

void Slabs::close() { impl_->close(); }

}  // namespace ray_hixl::device
