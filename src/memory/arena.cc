#include "memory/arena.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"
#include "memory/free_ranges.h"

namespace ray_hixl::memory {
namespace {

constexpr std::uint64_t kMost = std::uint64_t{1} << 62;           // far more than any machine has, far from overflowing
constexpr std::uint64_t kSegmentBytes = std::uint64_t{64} << 20;  // of a segment that serves many blocks

std::uint64_t round_up(std::uint64_t bytes) { return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment; }

using Segments = std::vector<std::unique_ptr<Segment>>;

// The callback that hears of retired segments. Called without a lock; after set() returned, the one before is neither running nor called.
class RetiredHook {
 public:
  using Callback = Arena::Retired;

  void set(Callback callback) {
    std::shared_ptr<const Callback> next = callback ? std::make_shared<const Callback>(std::move(callback)) : nullptr;
    MutexLock lock(mutex_);
    callback_.swap(next);
    while (running_ > 0) idle_.wait(lock);
  }

  void call(std::uint32_t segment) {
    std::shared_ptr<const Callback> callback;
    {
      const MutexLock lock(mutex_);
      if (!callback_) return;
      callback = callback_;
      ++running_;
    }
    (*callback)(segment);
    callback.reset();
    const MutexLock lock(mutex_);
    if (--running_ == 0) idle_.notify_all();
  }

 private:
  Mutex mutex_;
  Condition idle_;
  std::shared_ptr<const Callback> callback_ RAY_HIXL_GUARDED_BY(mutex_);  // shared with the calls under way
  int running_ RAY_HIXL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

struct Arena::Impl {
  struct Owned {
    std::unique_ptr<Segment> segment;
    std::uint64_t used = 0;
  };
  struct Lease;

  Impl(ArenaKind the_kind, std::uint64_t keep) : kind(the_kind), keep_bytes(keep) {}

  const ArenaKind kind;
  const std::uint64_t keep_bytes;
  const ProcessGuard process;
  RetiredHook retired;
  mutable Mutex mutex;
  std::map<std::uint32_t, Owned> segments RAY_HIXL_GUARDED_BY(mutex);
  std::map<std::byte*, std::uint32_t> bases RAY_HIXL_GUARDED_BY(mutex);  // segment by its first byte
  FreeRanges free_ranges RAY_HIXL_GUARDED_BY(mutex);                     // of all segments
  std::uint32_t next_segment RAY_HIXL_GUARDED_BY(mutex) = 1;
  ArenaStats stats RAY_HIXL_GUARDED_BY(mutex);

  void count_taken(std::uint32_t segment, std::uint64_t length) RAY_HIXL_REQUIRES(mutex);
  std::byte* adopt(std::unique_ptr<Segment> segment, std::uint64_t length) RAY_HIXL_REQUIRES(mutex);
  bool give_back(std::byte* address, std::uint64_t length) RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] Segments take_surplus(std::uint64_t incoming, std::uint64_t keep) RAY_HIXL_REQUIRES(mutex);

  std::byte* recycle(std::uint64_t length);
  Result<std::byte*> grow(std::uint64_t length);
  Result<std::unique_ptr<Segment>> new_segment(std::uint64_t length);
  void release(std::byte* address, std::uint64_t length);
  void shed(std::uint64_t incoming, std::uint64_t keep);
  void drop(Segments surplus) RAY_HIXL_EXCLUDES(mutex);
};

// What the pointer to a block keeps: the arena, and the memory until the pointer dies.
struct Arena::Impl::Lease {
  Lease(std::shared_ptr<Arena> from, Block lent, std::uint64_t taken) : arena(std::move(from)), block(lent), length(taken) {}
  ~Lease() { arena->impl_->release(block.address, length); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const std::shared_ptr<Arena> arena;
  const Block block;
  const std::uint64_t length;  // block.length, rounded up
};

void Arena::Impl::count_taken(std::uint32_t segment, std::uint64_t length) {
  segments.at(segment).used += length;
  stats.used_bytes += length;
  ++stats.live_blocks;
  ++stats.allocations;
}

// A new segment, its first bytes taken.
std::byte* Arena::Impl::adopt(std::unique_ptr<Segment> segment, std::uint64_t length) {
  std::byte* const base = segment->base();
  const std::uint32_t id = segment->id();
  ++stats.segments;
  stats.mapped_bytes += segment->length();
  bases.emplace(base, id);
  if (segment->length() > length) free_ranges.add(base + length, segment->length() - length, id);
  segments.emplace(id, Owned{std::move(segment)});
  count_taken(id, length);
  return base;
}

// Is its segment empty now?
bool Arena::Impl::give_back(std::byte* address, std::uint64_t length) {
  const std::uint32_t id = std::prev(bases.upper_bound(address))->second;
  Owned& owned = segments.at(id);
  owned.used -= length;
  stats.used_bytes -= length;
  --stats.live_blocks;
  free_ranges.add(address, length, id);
  return owned.used == 0;
}

// Empty segments, the oldest first, as long as the arena would map more than `keep` bytes together with `incoming` ones.
Segments Arena::Impl::take_surplus(std::uint64_t incoming, std::uint64_t keep) {
  Segments surplus;
  for (auto it = segments.begin(); it != segments.end() && stats.mapped_bytes + incoming > keep;) {
    if (it->second.used > 0) {
      ++it;
      continue;
    }
    std::unique_ptr<Segment> segment = std::move(it->second.segment);
    free_ranges.remove(segment->base());
    bases.erase(segment->base());
    --stats.segments;
    stats.mapped_bytes -= segment->length();
    surplus.push_back(std::move(segment));
    it = segments.erase(it);
  }
  return surplus;
}

void Arena::Impl::shed(std::uint64_t incoming, std::uint64_t keep) {
  MutexLock lock(mutex);
  Segments surplus = take_surplus(incoming, keep);
  lock.unlock();
  drop(std::move(surplus));
}

// Unmapping takes long, and whoever hears of it takes locks of his own.
void Arena::Impl::drop(Segments surplus) {
  for (std::unique_ptr<Segment>& segment : surplus) {
    const std::uint32_t id = segment->id();
    segment.reset();
    retired.call(id);
  }
}

// Null if no segment has room.
std::byte* Arena::Impl::recycle(std::uint64_t length) {
  const MutexLock lock(mutex);
  const FreeRanges::Taken taken = free_ranges.take(length);
  if (taken.address == nullptr) return nullptr;
  count_taken(taken.segment, length);
  ++stats.recycled;
  return taken.address;
}

Result<std::unique_ptr<Segment>> Arena::Impl::new_segment(std::uint64_t length) {
  std::uint32_t id = 0;
  {
    const MutexLock lock(mutex);
    id = next_segment++;
  }
  return Segment::create(id, length, kind);
}

// From a new segment. Pages are taken without the lock, so that others go on recycling meanwhile.
Result<std::byte*> Arena::Impl::grow(std::uint64_t length) {
  const std::uint64_t wanted = std::max(length, kSegmentBytes);
  shed(wanted, keep_bytes);
  Result<std::unique_ptr<Segment>> segment = new_segment(wanted);
  if (!segment.is_ok() && segment.status().code() == Code::kOutOfMemory) {  // then without spares
    shed(0, 0);
    segment = new_segment(length);
  }
  if (!segment.is_ok()) return segment.status();
  MutexLock lock(mutex);
  std::byte* const address = adopt(*std::move(segment), length);
  Segments surplus = take_surplus(0, keep_bytes);  // what became empty meanwhile
  lock.unlock();
  drop(std::move(surplus));
  return address;
}

void Arena::Impl::release(std::byte* address, std::uint64_t length) {
  if (process.in_child()) return;  // the memory is the parent's
  MutexLock lock(mutex);
  if (!give_back(address, length)) return;
  Segments surplus = take_surplus(0, keep_bytes);
  lock.unlock();
  drop(std::move(surplus));
}

std::shared_ptr<Arena> Arena::create(ArenaKind kind, std::uint64_t keep_bytes) {
  return std::shared_ptr<Arena>(new Arena(std::make_unique<Impl>(kind, keep_bytes)));
}

Arena::Arena(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Arena::~Arena() = default;

Result<std::shared_ptr<const Block>> Arena::allocate(std::uint64_t bytes) {
  RAY_HIXL_RETURN_IF_ERROR(impl_->process.check());
  if (bytes == 0) return Status(Code::kInvalidArgument, "an arena block of 0 bytes");
  if (bytes > kMost) return Status(Code::kOutOfMemory, "no machine has " + std::to_string(bytes) + " bytes");
  const std::uint64_t length = round_up(bytes);
  std::byte* address = impl_->recycle(length);
  if (address == nullptr) {
    const Result<std::byte*> grown = impl_->grow(length);
    if (!grown.is_ok()) {
      return grown.status().with_context("no room for " + std::to_string(bytes) + " bytes in the arena, which maps " +
                                         std::to_string(stats().mapped_bytes) + " bytes");
    }
    address = *grown;
  }
  const auto lease = std::make_shared<const Impl::Lease>(shared_from_this(), Block{address, bytes}, length);
  return std::shared_ptr<const Block>(lease, &lease->block);
}

std::optional<SegmentInfo> Arena::find(const void* address) const {
  auto* const wanted = static_cast<std::byte*>(const_cast<void*>(address));
  const MutexLock lock(impl_->mutex);
  auto it = impl_->bases.upper_bound(wanted);
  if (it == impl_->bases.begin()) return std::nullopt;
  const Segment& segment = *impl_->segments.at(std::prev(it)->second).segment;
  if (wanted >= segment.base() + segment.length()) return std::nullopt;
  return SegmentInfo{segment.id(), reinterpret_cast<std::uint64_t>(segment.base()), segment.length()};
}

Result<Fd> Arena::segment_fd(std::uint32_t id) const {
  const MutexLock lock(impl_->mutex);
  const auto it = impl_->segments.find(id);
  if (it == impl_->segments.end()) return Status(Code::kInvalidRegion, "arena segment " + std::to_string(id) + " was given back");
  return it->second.segment->fd().duplicate();
}

void Arena::set_retired(Retired retired) { impl_->retired.set(std::move(retired)); }

ArenaStats Arena::stats() const {
  const MutexLock lock(impl_->mutex);
  return impl_->stats;
}

}  // namespace ray_hixl::memory
