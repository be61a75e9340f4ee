#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "memory/arena.h"
#include "memory/blocks.h"
#include "support/child.h"
#include "support/pattern.h"
#include "support/sanitized.h"

namespace ray_hixl::memory {
namespace {

using test::Child;
using test::kMiB;

constexpr std::uint64_t kKeep = 1024 * kMiB;

BlockPtr allocate(const std::shared_ptr<Arena>& arena, std::uint64_t bytes, std::uint64_t seed) {
  BlockPtr block = allocate(arena, bytes);
  if (block) test::fill_pattern({block->address, bytes}, seed);
  return block;
}

bool holds(const BlockPtr& block, std::uint64_t seed) { return test::is_pattern({block->address, block->length}, seed); }

bool fork_once() {
  return test::in_child([] { return true; });
}

TEST(ArenaFork, shares_what_lives_and_neither_drops_nor_makes_blocks_in_the_child) {
  const auto arena = Arena::create(ArenaKind::kSource, 0);
  BlockPtr block = allocate(arena, 4096);
  EXPECT_TRUE(test::in_child([&] {
    block->address[0] = std::byte{77};
    const Code made = arena->allocate(1).status().code();
    block.reset();
    return made == Code::kClosed && arena->stats().live_blocks == 1;
  }));
  EXPECT_EQ(block->address[0], std::byte{77});
}

TEST(ArenaFork, what_a_child_reads_is_not_overwritten) {
  for (const ArenaKind kind : {ArenaKind::kSource, ArenaKind::kLanding}) {
    const auto arena = Arena::create(kind, kKeep);
    const BlockPtr lives_on = allocate(arena, kMiB);
    BlockPtr block = allocate(arena, kMiB, 1);
    Child child([&](const Child::Told&) { return holds(block, 1); });
    block.reset();
    std::vector<BlockPtr> others;
    while (arena->stats().segments == 1) others.push_back(allocate(arena, kMiB, 2));  // all that the segment has
    EXPECT_TRUE(child.passes());
  }
}

TEST(ArenaFork, memory_that_lived_at_a_fork_is_retained_and_goes_with_its_segment) {
  const auto arena = Arena::create(ArenaKind::kSource, kKeep);
  std::vector<std::uint32_t> retired;
  arena->set_retired([&](std::uint32_t segment) { retired.push_back(segment); });
  BlockPtr lives_on = allocate(arena, kMiB);
  BlockPtr block = allocate(arena, kMiB);
  const std::byte* const address = block->address;
  EXPECT_TRUE(fork_once());
  block.reset();
  EXPECT_EQ(arena->stats().retained_bytes, kMiB);
  block = allocate(arena, kMiB);  // of what was free at the fork
  EXPECT_NE(block->address, address);
  EXPECT_EQ(arena->stats().segments, 1U);
  block.reset();
  EXPECT_EQ(arena->stats().retained_bytes, kMiB);
  EXPECT_TRUE(retired.empty());
  lives_on.reset();
  EXPECT_EQ(retired.size(), 1U);
  EXPECT_EQ(arena->stats().segments, 0U);
  EXPECT_EQ(arena->stats().mapped_bytes, 0U);
  EXPECT_EQ(arena->stats().retained_bytes, 0U);
}

TEST(ArenaFork, memory_made_after_a_fork_is_recycled) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeep);
  EXPECT_TRUE(fork_once());
  const std::byte* const first = allocate(arena, kMiB)->address;
  EXPECT_EQ(allocate(arena, kMiB)->address, first);
  EXPECT_EQ(arena->stats().retained_bytes, 0U);
  EXPECT_EQ(arena->stats().segments, 1U);
}

TEST(ArenaFork, a_hundred_forks_beside_a_live_set_hold_the_set_and_a_segment) {
  const auto arena = Arena::create(ArenaKind::kLanding, kKeep);
  std::vector<BlockPtr> set;
  for (int i = 0; i < 64; ++i) set.push_back(allocate(arena, kMiB));
  const int forks = test::unless_sanitized(100, 20);  // the shadow of all that memory is copied, too
  for (int i = 0; i < forks; ++i) {
    const BlockPtr block = allocate(arena, kMiB);
    ASSERT_TRUE(fork_once());
    EXPECT_LE(arena->stats().mapped_bytes, 64 * kMiB + kLargestSegment);
  }
  EXPECT_EQ(arena->stats().mapped_bytes, 64 * kMiB);
  EXPECT_EQ(arena->stats().retained_bytes, 0U);
}

// Fills a segment with one block that stays and one that is retained.
BlockPtr retain_a_segment(const std::shared_ptr<Arena>& arena) {
  BlockPtr lives_on = allocate(arena, Arena::kAlignment, 1);
  BlockPtr block = allocate(arena, kSegment - Arena::kAlignment);
  EXPECT_TRUE(fork_once());
  block.reset();
  return lives_on;
}

TEST(ArenaFork, with_too_much_retained_new_blocks_are_private_memory) {
  const auto arena = Arena::create(ArenaKind::kSource, kMiB);
  BlockPtr lives_on = retain_a_segment(arena);
  EXPECT_EQ(arena->stats().retained_bytes, kSegment - Arena::kAlignment);
  BlockPtr block = allocate(arena, kMiB, 3);
  EXPECT_FALSE(arena->find(block->address).has_value());
  EXPECT_EQ(arena->stats().segments, 1U);
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment + kMiB);
  Child child([&](const Child::Told&) { return holds(block, 3); });
  test::fill_pattern({block->address, kMiB}, 4);  // a copy from here on
  block.reset();
  EXPECT_EQ(arena->stats().mapped_bytes, kSegment);
  EXPECT_EQ(arena->stats().used_bytes, Arena::kAlignment);
  EXPECT_TRUE(child.passes());
  lives_on.reset();
  EXPECT_EQ(arena->stats().mapped_bytes, 0U);
  EXPECT_TRUE(arena->find(allocate(arena, kMiB)->address).has_value());
}

TEST(ArenaFork, many_blocks_that_live_on_retain_no_more_than_the_cap_and_a_segment) {
  const auto arena = Arena::create(ArenaKind::kLanding, 2 * kSegment);
  std::vector<BlockPtr> live_on;
  for (int i = 0; i < 10; ++i) live_on.push_back(retain_a_segment(arena));
  EXPECT_LE(arena->stats().retained_bytes, 4 * kSegment);  // the last segment is as large as the cap
  EXPECT_LE(arena->stats().segments, 3U);
  for (const BlockPtr& block : live_on) EXPECT_TRUE(holds(block, 1));
}

}  // namespace
}  // namespace ray_hixl::memory
