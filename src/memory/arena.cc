#include "memory/arena.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/fork.h"
#include "base/mutex.h"
#include "base/process_shared.h"
#include "base/round_up.h"
#include "base/thread.h"
#include "memory/free_ranges.h"
#include "memory/hook.h"
#include "memory/private_memory.h"

namespace ray_hixl::memory {
namespace {

constexpr std::uint64_t kMost = std::uint64_t{1} << 62;  // far more than any machine has, far from overflowing
// Of a segment that serves many blocks. Each new one doubles the arena: whoever needs little neither waits for much nor keeps it.
constexpr std::uint64_t kFirstSegment = Arena::kIdleBytes;
constexpr std::uint64_t kLargestSegment = std::uint64_t{64} << 20;

// The first run of blocks each of which can be unmapped alone.
Run first_run_in_pages(std::span<const std::uint64_t> lengths) {
  std::vector<std::uint64_t> pages;
  for (const std::uint64_t length : lengths.first(std::min(lengths.size(), kRunBytes / PrivateMemory::kPage)))
    pages.push_back(round_up(length, PrivateMemory::kPage));
  return first_run(pages);
}

}  // namespace

struct Arena::Impl {
  struct Owned {
    std::unique_ptr<Segment> segment;
    std::uint64_t used = 0;      // bytes in live blocks
    std::uint64_t retained = 0;  // bytes of dead ones that a child may still read
  };
  // Where a block lies, and what a fork since then means for its end.
  struct Place {
    std::byte* address = nullptr;
    std::uint64_t length = 0;
    bool is_private = false;
    std::uint64_t forks = fork_count();
  };
  // Of blocks side by side.
  struct Room {
    Place place;
    std::size_t blocks = 0;
  };
  using Segments = std::map<std::uint32_t, Owned>;  // by their ids
  struct Lease;
  // What dead blocks left to unmap. Whoever wants new memory unmaps it, or the one for whom the loop asked elsewhere.
  struct Doomed {
    Segments segments;
    std::vector<std::pair<std::byte*, std::uint64_t>> private_memory;  // address, length
    std::uint64_t bytes = 0;

    void add(Segments::node_type segment) {  // moved as it is: without memory, which may be what is short
      bytes += segment.mapped().segment->length();
      segments.insert(std::move(segment));
    }
    void add_private(std::byte* address, std::uint64_t length) {
      bytes += length;
      private_memory.emplace_back(address, length);
    }
  };

  Impl(ArenaKind the_kind, std::uint64_t keep, DropElsewhere drop_elsewhere)
      : kind(the_kind), keep_bytes(keep), elsewhere(std::move(drop_elsewhere)) {}

  const ArenaKind kind;
  const std::uint64_t keep_bytes;
  const DropElsewhere elsewhere;  // may be null
  const ProcessGuard process;
  Hook<std::uint32_t> retired;
  Hook<> surplus;
  mutable Mutex mutex;
  Segments segments RAY_HIXL_GUARDED_BY(mutex);
  std::map<std::byte*, std::uint32_t> bases RAY_HIXL_GUARDED_BY(mutex);  // segment by its first byte
  FreeRanges free_ranges RAY_HIXL_GUARDED_BY(mutex);                     // of all segments
  std::uint32_t next_segment RAY_HIXL_GUARDED_BY(mutex) = 1;
  ArenaStats stats RAY_HIXL_GUARDED_BY(mutex);
  Doomed doomed RAY_HIXL_GUARDED_BY(mutex);
  std::uint64_t unmapping RAY_HIXL_GUARDED_BY(mutex) = 0;      // bytes that were doomed, and threads are at
  std::uint64_t unmapped_ever RAY_HIXL_GUARDED_BY(mutex) = 0;  // bytes; only grows
  Condition unmapped;
  bool surplus_told RAY_HIXL_GUARDED_BY(mutex) = false;
  std::uint64_t allocations_at_look RAY_HIXL_GUARDED_BY(mutex) = 0;

  void count_taken(Run run) RAY_HIXL_REQUIRES(mutex);
  std::byte* adopt(std::unique_ptr<Segment> segment, Run run) RAY_HIXL_REQUIRES(mutex);
  bool give_back(const Place& block) RAY_HIXL_REQUIRES(mutex);
  void doom_surplus(std::uint64_t incoming, std::uint64_t keep) RAY_HIXL_REQUIRES(mutex);

  Result<Room> find_room(std::span<const std::uint64_t> lengths);
  Room recycle(std::span<const std::uint64_t> lengths);
  Result<std::byte*> grow(Run run);
  Result<std::unique_ptr<Segment>> new_segment(std::uint64_t length);
  [[nodiscard]] std::uint64_t next_segment_bytes() const;
  [[nodiscard]] bool retains_too_much() const;
  Result<std::byte*> take_private(Run run);
  // What the end of a block leaves to do.
  struct Leftover {
    bool is_doomed = false;
    bool is_surplus = false;
  };
  Leftover release(const Place& block);
  [[nodiscard]] bool has_surplus() const RAY_HIXL_REQUIRES(mutex);
  void unmap_doomed() RAY_HIXL_EXCLUDES(mutex);
  static void unmap_off_loop(const std::shared_ptr<Arena>& arena);
  void shed(std::uint64_t incoming, std::uint64_t keep) RAY_HIXL_EXCLUDES(mutex);
  void make_room(std::uint64_t incoming, std::uint64_t keep) RAY_HIXL_EXCLUDES(mutex);
};

// What the pointer to a block keeps: the arena, and the memory until the pointer dies.
struct Arena::Impl::Lease {
  Lease(std::shared_ptr<Arena> from, const Place& taken, std::uint64_t bytes)
      : arena(std::move(from)), place(taken), block{taken.address, bytes} {}
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const std::shared_ptr<Arena> arena;
  const Place place;
  const Block block;
};

Arena::Impl::Lease::~Lease() {
  Impl& impl = *arena->impl_;
  const Leftover leftover = impl.release(place);
  if (leftover.is_doomed) unmap_off_loop(arena);
  if (leftover.is_surplus) impl.surplus.call();
}

void Arena::Impl::unmap_off_loop(const std::shared_ptr<Arena>& arena) {
  Impl& impl = *arena->impl_;
  if (impl.elsewhere && on_event_loop()) {
    impl.elsewhere({nullptr, [kept = arena](const void*) { kept->impl_->unmap_doomed(); }});
  } else {
    impl.unmap_doomed();
  }
}

void Arena::Impl::count_taken(Run run) {
  stats.used_bytes += run.bytes;
  stats.live_blocks += run.blocks;
  stats.allocations += run.blocks;
}

// A new segment, its first bytes taken.
std::byte* Arena::Impl::adopt(std::unique_ptr<Segment> segment, Run run) {
  std::byte* const base = segment->base();
  const std::uint32_t id = segment->id();
  ++stats.segments;
  stats.mapped_bytes += segment->length();
  stats.huge_bytes += segment->huge_bytes();
  bases.emplace(base, id);
  if (segment->length() > run.bytes) free_ranges.add(base + run.bytes, segment->length() - run.bytes, id);
  segments.emplace(id, Owned{std::move(segment), run.bytes});
  count_taken(run);
  return base;
}

// Is its segment empty now? A child of a fork since the block was made shares these pages and may read them for as long as it lives, so
// nobody may write there any more: they go with the segment.
bool Arena::Impl::give_back(const Place& block) {
  const std::uint32_t id = std::prev(bases.upper_bound(block.address))->second;
  Owned& owned = segments.at(id);
  owned.used -= block.length;
  stats.used_bytes -= block.length;
  --stats.live_blocks;
  if (block.forks == fork_count()) {
    free_ranges.add(block.address, block.length, id);
  } else {
    owned.retained += block.length;
    stats.retained_bytes += block.length;
  }
  return owned.used == 0;
}

// Empty segments, the oldest first: those that retain bytes, and others as long as the arena would map more than `keep` bytes together with
// `incoming` ones.
void Arena::Impl::doom_surplus(std::uint64_t incoming, std::uint64_t keep) {
  for (auto it = segments.begin(); it != segments.end();) {
    const auto each = it++;
    const Owned& owned = each->second;
    if (owned.used > 0 || (owned.retained == 0 && stats.mapped_bytes + incoming <= keep)) continue;
    const Segment& segment = *owned.segment;
    free_ranges.remove(segment.base(), segment.length());
    bases.erase(segment.base());
    --stats.segments;
    stats.retained_bytes -= owned.retained;
    stats.mapped_bytes -= segment.length();
    stats.huge_bytes -= segment.huge_bytes();
    doomed.add(segments.extract(each));
  }
}

// Lets surplus go, and unmaps it.
void Arena::Impl::shed(std::uint64_t incoming, std::uint64_t keep) {
  {
    const MutexLock lock(mutex);
    doom_surplus(incoming, keep);
  }
  unmap_doomed();
}

// Before more memory is mapped: lets surplus go, and waits until as much is unmapped as other threads are at now. What they begin meanwhile
// is not waited for, since there may be no end of it.
void Arena::Impl::make_room(std::uint64_t incoming, std::uint64_t keep) {
  shed(incoming, keep);
  MutexLock lock(mutex);
  const std::uint64_t until = unmapped_ever + unmapping;
  while (unmapped_ever < until) unmapped.wait(lock);
}

// None if no segment has any.
Arena::Impl::Room Arena::Impl::recycle(std::span<const std::uint64_t> lengths) {
  const MutexLock lock(mutex);
  const Run run = free_ranges.fitting(lengths);
  if (run.blocks == 0) return {};
  const FreeRanges::Taken taken = free_ranges.take(run.bytes);
  segments.at(taken.segment).used += run.bytes;
  count_taken(run);
  stats.recycled += run.blocks;
  return {{taken.address, run.bytes}, run.blocks};
}

Result<std::unique_ptr<Segment>> Arena::Impl::new_segment(std::uint64_t length) {
  std::uint32_t id = 0;
  {
    const MutexLock lock(mutex);
    id = next_segment++;
  }
  return Segment::create(id, length, kind);
}

std::uint64_t Arena::Impl::next_segment_bytes() const {
  const MutexLock lock(mutex);
  return std::clamp(stats.mapped_bytes, kFirstSegment, kLargestSegment);
}

// From a new segment. Pages are taken without the lock, so that others go on recycling meanwhile.
Result<std::byte*> Arena::Impl::grow(Run run) {
  const std::uint64_t wanted = std::max(run.bytes, next_segment_bytes());
  make_room(wanted, keep_bytes);
  Result<std::unique_ptr<Segment>> segment = new_segment(wanted);
  if (!segment.is_ok() && segment.status().code() == Code::kOutOfMemory) {  // then without spares
    make_room(0, 0);
    segment = new_segment(run.bytes);
  }
  if (!segment.is_ok()) return segment.status();
  MutexLock lock(mutex);
  std::byte* const address = adopt(*std::move(segment), run);
  lock.unlock();
  shed(0, keep_bytes);  // what became empty meanwhile
  return address;
}

bool Arena::Impl::retains_too_much() const {
  const MutexLock lock(mutex);
  return stats.retained_bytes > keep_bytes;
}

Result<std::byte*> Arena::Impl::take_private(Run run) {
  make_room(run.bytes, keep_bytes);
  Result<std::byte*> address = PrivateMemory::take(run.bytes);
  if (!address.is_ok() && address.status().code() == Code::kOutOfMemory) {
    make_room(0, 0);
    address = PrivateMemory::take(run.bytes);
  }
  if (!address.is_ok()) return address;
  const MutexLock lock(mutex);
  stats.mapped_bytes += run.bytes;
  count_taken(run);
  return address;
}

// Blocks that live long, each with forks since, could keep any number of segments: with too much retained there are no new segments.
Result<Arena::Impl::Room> Arena::Impl::find_room(std::span<const std::uint64_t> lengths) {
  const Room recycled = recycle(lengths);
  if (recycled.blocks > 0) return recycled;
  if (!retains_too_much()) {
    const Run run = first_run(lengths);
    const Result<std::byte*> address = grow(run);
    if (address.is_ok()) return Room{{*address, run.bytes}, run.blocks};
    if (address.status().code() != Code::kNotAvailable) return address.status();
    // No segments on this machine: peers cannot map the memory, but read it like any other.
  }
  const Run run = first_run_in_pages(lengths);
  const Result<std::byte*> address = take_private(run);
  if (!address.is_ok()) return address.status();
  return Room{{*address, run.bytes, true}, run.blocks};
}

bool Arena::Impl::has_surplus() const {
  return stats.mapped_bytes > kIdleBytes && std::ranges::any_of(segments, [](const auto& each) { return each.second.used == 0; });
}

Arena::Impl::Leftover Arena::Impl::release(const Place& block) {
  const MutexLock lock(mutex);
  const std::uint64_t before = doomed.bytes;
  bool is_surplus = false;
  if (block.is_private) {
    doomed.add_private(block.address, block.length);
    stats.mapped_bytes -= block.length;
    stats.used_bytes -= block.length;
    --stats.live_blocks;
  } else if (give_back(block)) {
    doom_surplus(0, keep_bytes);
    is_surplus = !surplus_told && has_surplus();
  }
  if (is_surplus) {
    surplus_told = true;
    allocations_at_look = stats.allocations;
  }
  return {doomed.bytes > before, is_surplus};
}

// Unmapping takes long, and whoever hears of it takes locks of his own.
void Arena::Impl::unmap_doomed() {
  MutexLock lock(mutex);
  Doomed now = std::exchange(doomed, {});
  unmapping += now.bytes;
  lock.unlock();
  for (const auto& [address, length] : now.private_memory) PrivateMemory::give_back(address, length);
  for (auto& [id, owned] : now.segments) owned.segment.reset();
  lock.lock();
  unmapping -= now.bytes;
  unmapped_ever += now.bytes;
  unmapped.notify_all();
  lock.unlock();
  for (const auto& [id, owned] : now.segments) retired.call(id);  // which may want new memory
}

std::shared_ptr<Arena> Arena::create(ArenaKind kind, std::uint64_t keep_bytes, DropElsewhere elsewhere) {
  return std::shared_ptr<Arena>(new Arena(std::make_unique<Impl>(kind, keep_bytes, std::move(elsewhere))));
}

Arena::Arena(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Arena::~Arena() = default;

Result<std::shared_ptr<const Block>> Arena::allocate(std::uint64_t bytes) {
  Result<Blocks> blocks = allocate_each({&bytes, 1});
  if (!blocks.is_ok()) return blocks.status();
  return std::move(blocks->front());
}

Result<Blocks> Arena::allocate_each(std::span<const std::uint64_t> lengths) {
  RAY_HIXL_RETURN_IF_ERROR(impl_->process.check());
  std::uint64_t bytes = 0;
  std::vector<std::uint64_t> rounded;
  rounded.reserve(lengths.size());
  for (const std::uint64_t length : lengths) {
    if (length == 0) return Status(Code::kInvalidArgument, "an arena block of 0 bytes");
    if (length > kMost - bytes) return Status(Code::kOutOfMemory, "no machine has " + std::to_string(length) + " bytes");
    bytes += length;
    rounded.push_back(round_up(length, kAlignment));
  }
  Blocks blocks;
  blocks.reserve(lengths.size());
  while (blocks.size() < lengths.size()) {
    const Result<Impl::Room> room = impl_->find_room(std::span(rounded).subspan(blocks.size()));
    if (!room.is_ok()) {
      return room.status().with_context("no room for " + std::to_string(bytes) + " bytes in the arena, which maps " +
                                        std::to_string(stats().mapped_bytes) + " bytes");
    }
    Impl::Place place = room->place;
    for (std::size_t i = 0; i < room->blocks; ++i) {
      place.length = place.is_private ? round_up(lengths[blocks.size()], PrivateMemory::kPage) : rounded[blocks.size()];
      const auto lease = make_process_shared<const Impl::Lease>(shared_from_this(), place, lengths[blocks.size()]);
      blocks.emplace_back(lease, &lease->block);
      place.address += place.length;
    }
  }
  return blocks;
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

void Arena::set_surplus(Surplus surplus) { impl_->surplus.set(std::move(surplus)); }

bool Arena::look_for_idleness() {
  {
    const MutexLock lock(impl_->mutex);
    const bool is_idle = std::exchange(impl_->allocations_at_look, impl_->stats.allocations) == impl_->stats.allocations;
    if (is_idle) impl_->doom_surplus(0, std::min(impl_->keep_bytes, kIdleBytes));
    impl_->surplus_told = impl_->has_surplus();
    if (impl_->surplus_told) return true;
  }
  Impl::unmap_off_loop(shared_from_this());
  return false;
}

ArenaStats Arena::stats() const {
  const MutexLock lock(impl_->mutex);
  ArenaStats stats = impl_->stats;
  stats.mapped_bytes += impl_->doomed.bytes + impl_->unmapping;
  return stats;
}

}  // namespace ray_hixl::memory
