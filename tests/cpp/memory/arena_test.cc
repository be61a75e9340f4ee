#include "memory/arena.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <future>
#include <iterator>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/thread.h"
#include "memory/blocks.h"
#include "support/event.h"
#include "support/forbidden_calls.h"
#include "support/held_calls.h"
#include "support/huge_pages.h"
#include "support/pattern.h"

namespace ray_hixl::memory {
namespace {

using test::Event;
using test::HeldCalls;
using test::kMiB;

constexpr std::uint64_t kKeepAll = std::uint64_t{1} << 40;
constexpr std::chrono::milliseconds kWhile{100};  // in which what must not happen would have happened

TEST(Arena, a_block_is_aligned_writable_and_counted) {
  const auto arena = Arena::create(ArenaKind::kSource, kKeepAll);
  BlockPtr block = allocate(arena, 5000);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block->address) % Arena::kAlignment, 0U);
  EXPECT_EQ(block->length, 5000U);
  test::fill_pattern({block->address, block->length}, 1);
  EXPECT_TRUE(test::is_pattern({block->address, block->length}, 1));
  ArenaStats stats = arena->stats();
  EXPECT_EQ(stats.segments, 1U);
  EXPECT_EQ(stats.mapped_bytes, kSegment);
  EXPECT_EQ(stats.used_bytes, 5056U);
  EXPECT_EQ(stats.live_blocks, 1U);
  EXPECT_EQ(stats.allocations, 1U);
  EXPECT_EQ(stats.recycled, 0U);
  block.reset();
  stats = arena->stats();
  EXPECT_EQ(stats.segments, 1U);
  EXPECT_EQ(stats.used_bytes, 0U);
  EXPECT_EQ(stats.live_blocks, 0U);
}

TEST(Arena, huge_bytes_are_those_of_its_live_segments) {
  if (!test::kernel_gives_huge_pages()) GTEST_SKIP() << "this kernel makes no huge pages of shared memory";
  const auto arena = Arena::create(ArenaKind::kSource, 0);
  for (int tries = 0; tries < 20 && arena->stats().huge_bytes == 0; ++tries) {  // memory may be in pieces just now
    BlockPtr block = allocate(arena, 2 * kSegment);
    EXPECT_EQ(arena->stats().huge_bytes, test::huge_bytes_at(block->address));
    if (arena->stats().huge_bytes == 0) continue;
    const BlockPtr another = allocate(arena, 2 * kSegment);
    EXPECT_EQ(arena->stats().huge_bytes, test::huge_bytes_at(block->address) + test::huge_bytes_at(another->address));
    block.reset();
    EXPECT_EQ(arena->stats().huge_bytes, test::huge_bytes_at(another->address));
    return;
  }
  ADD_FAILURE() << "no segment had any";
}

// An arena with two empty segments, which tells of its surplus.
class IdleArena : public testing::Test {
 protected:
  void SetUp() override {
    arena->set_surplus([this] { ++told; });
    allocate(arena, kSegment).reset();
    EXPECT_EQ(told, 0) << "that much is kept";
    const BlockPtr first = allocate(arena, 1);
    allocate(arena, 4 * kSegment).reset();
    EXPECT_EQ(told, 1);
  }
  const std::shared_ptr<Arena> arena = Arena::create(ArenaKind::kSource, kKeepAll);
  int told = 0;
};

TEST_F(IdleArena, gives_back_what_is_empty_beyond_the_first_bytes) {
  EXPECT_EQ(arena->stats().mapped_bytes, 5 * kSegment);
  EXPECT_FALSE(arena->look_for_idleness());
  EXPECT_LE(arena->stats().mapped_bytes, Arena::kIdleBytes);
}

TEST_F(IdleArena, keeps_all_while_memory_is_taken) {
  allocate(arena, 1).reset();
  EXPECT_TRUE(arena->look_for_idleness());
  EXPECT_EQ(arena->stats().mapped_bytes, 5 * kSegment);
  EXPECT_FALSE(arena->look_for_idleness());
  EXPECT_LE(arena->stats().mapped_bytes, Arena::kIdleBytes);
}

TEST_F(IdleArena, is_not_looked_at_while_all_is_in_use) {
  const BlockPtr one = allocate(arena, kSegment);
  const BlockPtr other = allocate(arena, 4 * kSegment);
  EXPECT_FALSE(arena->look_for_idleness());
  EXPECT_EQ(arena->stats().mapped_bytes, 5 * kSegment);
}

TEST_F(IdleArena, tells_once_until_it_is_looked_at) {
  allocate(arena, 1).reset();
  EXPECT_EQ(told, 1);
  (void)arena->look_for_idleness();
  (void)arena->look_for_idleness();
  allocate(arena, 4 * kSegment).reset();
  EXPECT_EQ(told, 2);
}

TEST(Arena, memory_is_recycled) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  const std::byte* first = allocate(arena, kMiB)->address;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(allocate(arena, kMiB)->address, first);
  EXPECT_EQ(arena->stats().recycled, 10U);
  EXPECT_EQ(arena->stats().allocations, 11U);
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment);
}

TEST(Arena, blocks_taken_together_lie_side_by_side_and_go_back_one_by_one) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  const std::vector<std::uint64_t> lengths{1, 5000, kMiB, 64};
  Blocks blocks = arena->allocate_each(lengths).value();
  ASSERT_EQ(blocks.size(), 4U);
  EXPECT_EQ(blocks[1]->length, 5000U) << "as asked for";
  EXPECT_EQ(blocks[1]->address, blocks[0]->address + 64);
  EXPECT_EQ(blocks[2]->address, blocks[1]->address + 5056);
  EXPECT_EQ(blocks[3]->address, blocks[2]->address + kMiB);
  EXPECT_EQ(arena->stats().live_blocks, 4U);
  EXPECT_EQ(arena->stats().used_bytes, kMiB + 64 + 5056 + 64);
  std::byte* const second = blocks[1]->address;
  blocks[1].reset();
  EXPECT_EQ(arena->stats().used_bytes, kMiB + 128);
  EXPECT_EQ(allocate(arena, 5056)->address, second);
  blocks.clear();
  EXPECT_EQ(arena->stats().live_blocks, 0U);
  EXPECT_EQ(arena->stats().used_bytes, 0U);
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment);
}

TEST(Arena, many_blocks_fill_the_gaps_between_others) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  Blocks blocks = arena->allocate_each(std::vector<std::uint64_t>(kSegment / kMiB, kMiB)).value();
  for (std::size_t i = 0; i < blocks.size(); i += 2) blocks[i].reset();
  const Blocks more = arena->allocate_each(std::vector<std::uint64_t>(kSegment / 2 / 65536, 65536)).value();
  EXPECT_EQ(arena->stats().used_bytes, kSegment);
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment);
}

TEST(Arena, thousands_of_small_blocks_take_little_more_than_their_bytes) {
  const auto arena = Arena::create(ArenaKind::kSource, kKeepAll);
  std::vector<BlockPtr> blocks;
  for (int i = 0; i < 9216; ++i) blocks.push_back(allocate(arena, 100));
  EXPECT_EQ(arena->stats().used_bytes, 9216U * 128);
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment);
}

TEST(Arena, private_blocks_that_are_taken_together_go_back_one_by_one) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  test::without_memfds([&] {
    Blocks blocks = arena->allocate_each(std::vector<std::uint64_t>{100, 5000, 64}).value();
    EXPECT_EQ(arena->stats().used_bytes, 4U * 4096);
    for (const BlockPtr& block : blocks) test::fill_pattern({block->address, block->length}, block->length);
    blocks[0].reset();
    EXPECT_EQ(arena->stats().mapped_bytes, 3U * 4096);
    EXPECT_TRUE(test::is_pattern({blocks[1]->address, 5000}, 5000));
    EXPECT_TRUE(test::is_pattern({blocks[2]->address, 64}, 64));
    blocks[1].reset();
    EXPECT_TRUE(test::is_pattern({blocks[2]->address, 64}, 64));
  });
  EXPECT_EQ(arena->stats().mapped_bytes, 0U);
}

TEST(Arena, many_blocks_are_all_or_none) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  EXPECT_EQ(arena->allocate_each(std::vector<std::uint64_t>{4096, 0}).status().code(), Code::kInvalidArgument);
  for (const std::uint64_t much : {std::uint64_t{1} << 50, std::uint64_t{1} << 62, ~std::uint64_t{0}}) {
    EXPECT_EQ(arena->allocate_each(std::vector<std::uint64_t>{4096, much, much, much, much}).status().code(), Code::kOutOfMemory);
    EXPECT_EQ(arena->stats().live_blocks, 0U);
  }
  EXPECT_TRUE(arena->allocate_each({}).value().empty());
}

TEST(Arena, freed_neighbours_merge) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  std::vector<BlockPtr> quarters;
  for (int i = 0; i < 4; ++i) quarters.push_back(allocate(arena, kSegment / 4));
  EXPECT_EQ(arena->stats().segments, 1U);
  for (const std::size_t i : {1U, 3U, 2U, 0U}) quarters[i].reset();
  const BlockPtr whole = allocate(arena, kSegment);
  EXPECT_EQ(arena->stats().segments, 1U);
}

TEST(Arena, each_segment_doubles_what_there_is_up_to_a_bound) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  std::vector<BlockPtr> blocks;
  std::vector<std::uint64_t> mapped;
  while (arena->stats().segments < 6) {
    blocks.push_back(allocate(arena, kSegment));
    if (mapped.empty() || mapped.back() != arena->stats().mapped_bytes) mapped.push_back(arena->stats().mapped_bytes);
  }
  EXPECT_EQ(mapped, (std::vector<std::uint64_t>{8 * kMiB, 16 * kMiB, 32 * kMiB, 64 * kMiB, 128 * kMiB, 192 * kMiB}));
}

TEST(Arena, a_large_block_gets_a_segment_of_its_size) {
  const auto arena = Arena::create(ArenaKind::kSource, kKeepAll);
  const BlockPtr block = allocate(arena, kSegment + 1);
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment + Segment::kGranule);
}

TEST(Arena, zero_bytes_are_refused) {
  EXPECT_EQ(Arena::create(ArenaKind::kSource, 0)->allocate(0).status().code(), Code::kInvalidArgument);
}

TEST(Arena, more_than_the_machine_has_is_refused_and_the_arena_goes_on) {
  const auto arena = Arena::create(ArenaKind::kSource, kKeepAll);
  for (const std::uint64_t bytes : {std::uint64_t{1} << 45, std::uint64_t{1} << 62, ~std::uint64_t{0} - 1}) {
    const Result<BlockPtr> block = arena->allocate(bytes);
    ASSERT_FALSE(block.is_ok());
    EXPECT_EQ(block.status().code(), Code::kOutOfMemory);
    EXPECT_NE(block.status().message().find(std::to_string(bytes)), std::string::npos) << block.status().to_string();
  }
  EXPECT_EQ(arena->stats().allocations, 0U);
  EXPECT_NE(allocate(arena, 1), nullptr);
}

TEST(Arena, an_empty_segment_over_the_budget_is_given_back_and_told) {
  const auto arena = Arena::create(ArenaKind::kSource, 0);
  std::vector<std::uint32_t> retired;
  arena->set_retired([&](std::uint32_t segment) { retired.push_back(segment); });
  BlockPtr first = allocate(arena, 1);
  BlockPtr second = allocate(arena, 1);
  const std::uint32_t id = arena->find(first->address)->id;
  first.reset();
  EXPECT_TRUE(retired.empty()) << "a block lives in it";
  second.reset();
  EXPECT_EQ(retired, std::vector<std::uint32_t>{id});
  EXPECT_EQ(arena->stats().segments, 0U);
  EXPECT_EQ(arena->stats().mapped_bytes, 0U);
  EXPECT_EQ(arena->segment_fd(id).status().code(), Code::kInvalidRegion);
}

TEST(Arena, an_empty_segment_goes_when_another_one_needs_the_budget) {
  const auto arena = Arena::create(ArenaKind::kSource, kSegment + 8 * kMiB);
  std::vector<std::uint32_t> retired;
  arena->set_retired([&](std::uint32_t segment) {
    retired.push_back(segment);
    EXPECT_EQ(arena->stats().mapped_bytes, 0U) << "before the other one is made, so that the two never add up";
  });
  const std::uint32_t first = arena->find(allocate(arena, kMiB)->address)->id;
  EXPECT_TRUE(retired.empty()) << "within the budget";
  BlockPtr large = allocate(arena, kSegment + 4 * kMiB);  // does not fit into the kept one
  EXPECT_EQ(retired, std::vector<std::uint32_t>{first});
  large.reset();
  EXPECT_EQ(retired.size(), 1U) << "it is alone within the budget now";
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment + 4 * kMiB);
}

TEST(Arena, the_callback_may_use_the_arena) {
  const auto arena = Arena::create(ArenaKind::kSource, 0);
  int calls = 0;
  arena->set_retired([&](std::uint32_t) {
    if (++calls == 1) allocate(arena, 1).reset();  // retires another segment while it runs
    EXPECT_EQ(arena->stats().live_blocks, 0U);
  });
  allocate(arena, 1).reset();
  EXPECT_EQ(calls, 2);
  arena->set_retired(nullptr);
  allocate(arena, 1).reset();
  EXPECT_EQ(calls, 2);
}

TEST(Arena, set_retired_waits_for_a_call_under_way) {
  const auto arena = Arena::create(ArenaKind::kSource, 0);
  Event entered;
  Event go_on;
  std::atomic<bool> ended{false};
  arena->set_retired([&](std::uint32_t) {
    entered.set();
    EXPECT_TRUE(go_on.wait());
    ended = true;
  });
  BlockPtr block = allocate(arena, 1);
  std::thread dropper([&] { block.reset(); });
  ASSERT_TRUE(entered.wait());
  std::thread setter([&] {
    arena->set_retired(nullptr);
    EXPECT_TRUE(ended);
  });
  go_on.set();
  setter.join();
  dropper.join();
}

TEST(Arena, find_knows_every_address_of_its_segments_and_no_other) {
  const auto arena = Arena::create(ArenaKind::kSource, kKeepAll);
  EXPECT_FALSE(arena->find(&arena).has_value());
  const BlockPtr block = allocate(arena, 100);
  const BlockPtr other = allocate(arena, kSegment);
  const auto info = arena->find(block->address + 99);
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->length, kSegment);
  auto* const base = reinterpret_cast<std::byte*>(info->base);
  EXPECT_EQ(arena->find(base)->id, info->id);
  EXPECT_EQ(arena->find(base + info->length - 1)->id, info->id);
  EXPECT_NE(arena->find(other->address)->id, info->id);
  for (const std::byte* outside : {base - 1, base + info->length}) {
    const auto found = arena->find(outside);
    EXPECT_TRUE(!found || found->id != info->id);
  }
  EXPECT_FALSE(arena->find(nullptr).has_value());
  EXPECT_FALSE(arena->find(&base).has_value());
}

TEST(Arena, a_peer_maps_a_source_segment_by_its_descriptor) {
  const auto arena = Arena::create(ArenaKind::kSource, kKeepAll);
  const BlockPtr skipped = allocate(arena, 10000);
  const BlockPtr block = allocate(arena, 10000);
  test::fill_pattern({block->address, block->length}, 3);
  const SegmentInfo info = *arena->find(block->address);
  const Result<Fd> fd = arena->segment_fd(info.id);
  ASSERT_TRUE(fd.is_ok());
  EXPECT_TRUE(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC);
  const auto view = *SegmentView::map(*fd, info.length);
  const std::uint64_t offset = reinterpret_cast<std::uint64_t>(block->address) - info.base;
  EXPECT_TRUE(test::is_pattern({view->base() + offset, block->length}, 3));
  EXPECT_EQ(arena->segment_fd(info.id + 100).status().code(), Code::kInvalidRegion);
}

TEST(Arena, what_dies_on_an_event_loop_is_free_at_once_and_unmapped_elsewhere) {
  std::vector<std::shared_ptr<const void>> left;
  const auto arena =
      Arena::create(ArenaKind::kLanding, 0, [&](std::shared_ptr<const void> leftover) { left.push_back(std::move(leftover)); });
  std::vector<std::uint32_t> retired;
  arena->set_retired([&](std::uint32_t segment) { retired.push_back(segment); });
  BlockPtr block = allocate(arena, kSegment);
  const std::uint32_t segment = arena->find(block->address)->id;
  std::thread([&] {
    become_event_loop();
    block.reset();
  }).join();
  EXPECT_EQ(arena->stats().live_blocks, 0U);
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment);
  ASSERT_EQ(left.size(), 1U);
  EXPECT_TRUE(retired.empty());
  left.clear();
  EXPECT_EQ(arena->stats().mapped_bytes, 0U);
  EXPECT_EQ(retired, std::vector<std::uint32_t>{segment});
  allocate(arena, kSegment).reset();  // not on a loop
  EXPECT_TRUE(left.empty());
}

TEST(Arena, new_memory_takes_the_place_of_what_others_are_still_to_unmap) {
  std::vector<std::shared_ptr<const void>> left;
  const auto arena =
      Arena::create(ArenaKind::kLanding, 0, [&](std::shared_ptr<const void> leftover) { left.push_back(std::move(leftover)); });
  arena->set_retired([&](std::uint32_t) { EXPECT_EQ(arena->stats().mapped_bytes, 0U); });
  for (int i = 0; i < 3; ++i) {
    BlockPtr block = allocate(arena, kSegment);
    EXPECT_EQ(arena->stats().mapped_bytes, kSegment);
    std::thread([&] {
      become_event_loop();
      block.reset();
    }).join();
  }
  EXPECT_EQ(left.size(), 3U);
  left.clear();  // what hears of it needs the arena
}

TEST(Arena, new_memory_waits_for_what_others_are_unmapping_which_counts_until_it_is_gone) {
  const auto arena = Arena::create(ArenaKind::kLanding, 0);
  BlockPtr block = allocate(arena, kSegment);
  std::future<std::uint64_t> mapped;
  HeldCalls dropper(SYS_munmap, kSegment, [&] { block.reset(); });
  ASSERT_TRUE(dropper.comes());
  EXPECT_EQ(arena->stats().segments, 0U);
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment);
  mapped = std::async(std::launch::async, [&] {
    const BlockPtr next = allocate(arena, kSegment);
    return arena->stats().mapped_bytes;
  });
  EXPECT_EQ(mapped.wait_for(kWhile), std::future_status::timeout);
  dropper.let_go();
  EXPECT_EQ(mapped.get(), kSegment);
}

TEST(Arena, new_memory_does_not_wait_for_what_others_begin_to_unmap_meanwhile) {
  constexpr std::uint64_t kLength = 3 * 4096;
  constexpr std::size_t kEach = 500;
  const auto arena = Arena::create(ArenaKind::kLanding, 0);
  std::array<std::vector<BlockPtr>, 2> blocks;
  test::without_memfds([&] {  // each is unmapped alone then
    for (auto& each : blocks) {
      while (each.size() < kEach) each.push_back(allocate(arena, kLength));
    }
  });
  std::future<BlockPtr> allocated;
  HeldCalls one(SYS_munmap, kLength, [&] { blocks[0].clear(); });
  HeldCalls other(SYS_munmap, kLength, [&] { blocks[1].clear(); });
  HeldCalls* busy = &one;
  HeldCalls* next = &other;
  ASSERT_TRUE(busy->comes());
  allocated = std::async(std::launch::async, [&] { return allocate(arena, 1); });
  const auto is_done = [&] { return allocated.wait_for(std::chrono::milliseconds(10)) == std::future_status::ready; };
  for (std::size_t left = 2 * kEach - 1; left > 0 && !is_done(); --left) {  // something is unmapped all the time
    ASSERT_TRUE(next->comes());
    busy->let_go();
    std::swap(busy, next);
  }
  EXPECT_TRUE(is_done());
}

TEST(Arena, where_there_is_no_memory_it_asks_again_when_others_have_unmapped) {
  const auto arena = Arena::create(ArenaKind::kLanding, 0);
  BlockPtr block = allocate(arena, kSegment);
  Result<BlockPtr> made = Status(Code::kInternal, "not made");
  {
    HeldCalls allocator(SYS_ftruncate, 2 * kSegment, [&] { made = arena->allocate(2 * kSegment); });
    ASSERT_TRUE(allocator.comes());
    HeldCalls dropper(SYS_munmap, kSegment, [&] { block.reset(); });
    ASSERT_TRUE(dropper.comes());
    allocator.fail(ENOMEM);
    ASSERT_FALSE(allocator.comes(kWhile)) << "beside what is being unmapped";
    dropper.let_go();
    ASSERT_TRUE(allocator.comes());
    allocator.let_go();
  }
  EXPECT_TRUE(made.is_ok()) << made.status().to_string();
}

TEST(Arena, where_there_is_no_private_memory_it_asks_again_without_spares) {
  constexpr std::uint64_t kLength = kSegment + 16 * 4096;  // not that of a thread's stack with its guard
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  allocate(arena, kSegment).reset();
  ASSERT_EQ(arena->stats().segments, 1U);
  Result<BlockPtr> made = Status(Code::kInternal, "not made");
  {
    HeldCalls allocator(SYS_mmap, kLength, [&] { test::without_memfds([&] { made = arena->allocate(kLength); }); });
    ASSERT_TRUE(allocator.comes());
    allocator.fail(ENOMEM);
    ASSERT_TRUE(allocator.comes());
    EXPECT_EQ(arena->stats().mapped_bytes, 0U);
    allocator.let_go();
  }
  EXPECT_TRUE(made.is_ok()) << made.status().to_string();
}

TEST(Arena, a_block_outlives_every_other_pointer_to_its_arena) {
  auto arena = Arena::create(ArenaKind::kSource, 0);
  const std::weak_ptr<Arena> watch = arena;
  BlockPtr block = allocate(arena, 4096);
  arena.reset();
  block->address[4095] = std::byte{1};
  EXPECT_FALSE(watch.expired());
  block.reset();
  EXPECT_TRUE(watch.expired());
}

// Marks both ends of a block, which a block that overlaps it would overwrite.
void mark(const Block& block, std::uint64_t seed) {
  const std::size_t edge = std::min<std::size_t>(block.length, 512);
  test::fill_pattern({block.address, edge}, seed);
  test::fill_pattern({block.address + block.length - edge, edge}, seed);
}

bool is_marked(const Block& block, std::uint64_t seed) {
  const std::size_t edge = std::min<std::size_t>(block.length, 512);
  if (block.length >= 2 * edge && !test::is_pattern({block.address, edge}, seed)) return false;
  return test::is_pattern({block.address + block.length - edge, edge}, seed);
}

std::uint64_t random_length(std::mt19937_64& random) {
  const std::uint64_t magnitude = std::uint64_t{1} << (random() % 24);
  return magnitude + random() % magnitude;
}

class Live {
 public:
  void add(BlockPtr block, std::uint64_t seed) {
    std::byte* const end = block->address + block->length;
    const auto next = blocks_.lower_bound(block->address);
    EXPECT_TRUE(next == blocks_.end() || end <= next->first) << "overlaps the next one";
    if (next != blocks_.begin()) {
      const Block& before = *std::prev(next)->second.block;
      EXPECT_LE(before.address + before.length, block->address) << "overlaps the one before";
    }
    mark(*block, seed);
    rounded_ += (block->length + 63) / 64 * 64;
    std::byte* const address = block->address;
    blocks_.emplace(address, Entry{std::move(block), seed});
  }
  void drop(std::size_t index) {
    const auto it = std::next(blocks_.begin(), static_cast<std::ptrdiff_t>(index));
    EXPECT_TRUE(is_marked(*it->second.block, it->second.seed)) << "somebody else wrote to it";
    rounded_ -= (it->second.block->length + 63) / 64 * 64;
    blocks_.erase(it);
  }
  [[nodiscard]] std::size_t size() const { return blocks_.size(); }
  [[nodiscard]] std::uint64_t rounded() const { return rounded_; }

 private:
  struct Entry {
    BlockPtr block;
    std::uint64_t seed;
  };
  std::map<std::byte*, Entry> blocks_;
  std::uint64_t rounded_ = 0;
};

TEST(Arena, random_use_keeps_blocks_apart_and_counters_exact) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto arena = Arena::create(ArenaKind::kLanding, 2 * kSegment);
  Live live;
  for (std::uint64_t step = 1; step <= 3000; ++step) {
    if (live.size() == 0 || (live.size() < 60 && random() % 2 == 0)) {
      live.add(allocate(arena, random_length(random)), step);
    } else {
      live.drop(random() % live.size());
    }
    const ArenaStats stats = arena->stats();
    ASSERT_EQ(stats.live_blocks, live.size());
    ASSERT_EQ(stats.used_bytes, live.rounded());
    ASSERT_GE(stats.mapped_bytes, stats.used_bytes);
  }
  while (live.size() > 0) live.drop(random() % live.size());
  const ArenaStats stats = arena->stats();
  EXPECT_EQ(stats.live_blocks, 0U);
  EXPECT_EQ(stats.used_bytes, 0U);
  EXPECT_LE(stats.mapped_bytes, 2 * kSegment);
  EXPECT_GT(stats.recycled, 0U);
}

TEST(Arena, many_threads_share_one) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeepAll);
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937_64 random(t);
      std::vector<BlockPtr> blocks;
      for (std::uint64_t i = 0; i < 300; ++i) {
        blocks.push_back(allocate(arena, 1 + random() % (kMiB / 2)));
        mark(*blocks.back(), t);
        if (blocks.size() == 10) {
          for (const BlockPtr& block : blocks) EXPECT_TRUE(is_marked(*block, t));
          blocks.clear();
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(arena->stats().live_blocks, 0U);
  EXPECT_EQ(arena->stats().used_bytes, 0U);
  EXPECT_EQ(arena->stats().allocations, 1200U);
}

TEST(Arena, gives_memory_of_its_own_where_there_are_no_memfds) {
  const auto arena = Arena::create(ArenaKind::kSource, 0);
  test::without_memfds([&] {
    const auto block = arena->allocate(100000);
    ASSERT_TRUE(block.is_ok()) << block.status().to_string();
    (*block)->address[99999] = std::byte{7};
    EXPECT_FALSE(arena->find((*block)->address).has_value()) << "peers would try to map it";
  });
  EXPECT_EQ(arena->stats().used_bytes, 0u);
}

}  // namespace
}  // namespace ray_hixl::memory
