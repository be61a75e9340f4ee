#include "memory/free_ranges.h"

#include <gtest/gtest.h>

#include <span>
#include <vector>

namespace ray_hixl::memory {
namespace {

class Ranges : public ::testing::Test {
 protected:
  std::byte* at(std::size_t offset) { return memory_.data() + offset; }
  std::byte* take(std::uint64_t length) { return ranges.take(length).address; }
  FreeRanges ranges;

 private:
  std::vector<std::byte> memory_ = std::vector<std::byte>(1000);
};

TEST_F(Ranges, nothing_fits_into_nothing) { EXPECT_EQ(take(1), nullptr); }

TEST_F(Ranges, the_smallest_that_fits_is_cut) {
  ranges.add(at(0), 100, 1);
  ranges.add(at(200), 30, 1);
  ranges.add(at(300), 50, 1);
  EXPECT_EQ(take(40), at(300));
  EXPECT_EQ(take(30), at(200));
  EXPECT_EQ(take(10), at(340)) << "what was left of the one of 50";
  EXPECT_EQ(take(101), nullptr);
  EXPECT_EQ(take(100), at(0));
  EXPECT_EQ(ranges.size(), 0U);
}

TEST(Runs, are_bounded_but_for_a_single_block) {
  const std::vector<std::uint64_t> lengths{kRunBytes - 1, 1, 1};
  EXPECT_EQ(first_run(lengths).blocks, 2U);
  EXPECT_EQ(first_run(lengths).bytes, kRunBytes);
  const std::vector<std::uint64_t> long_one{3 * kRunBytes, 1};
  EXPECT_EQ(first_run(long_one).blocks, 1U);
  EXPECT_EQ(first_run(long_one).bytes, 3 * kRunBytes);
}

TEST(Runs, fill_the_largest_gap_but_no_short_ones) {
  constexpr std::uint64_t kStep = kLeastRunBytes / 4;
  std::vector<std::byte> memory(kLeastRunBytes * 4);
  FreeRanges ranges;
  const std::vector<std::uint64_t> lengths(9, kStep);
  const auto blocks = [&](std::size_t count) { return ranges.fitting(std::span(lengths).first(count)).blocks; };
  EXPECT_EQ(blocks(1), 0U);
  ranges.add(memory.data(), 3 * kStep, 1);
  EXPECT_EQ(blocks(3), 3U) << "all that is wanted";
  EXPECT_EQ(blocks(4), 0U) << "a short part of it";
  ranges.add(memory.data() + 4 * kStep, 5 * kStep + 1, 1);
  EXPECT_EQ(blocks(4), 4U);
  EXPECT_EQ(blocks(9), 5U);
  EXPECT_EQ(ranges.fitting(lengths).bytes, 5 * kStep);
}

TEST_F(Ranges, the_segment_is_told) {
  ranges.add(at(0), 100, 1);
  ranges.add(at(200), 50, 2);
  EXPECT_EQ(ranges.take(50).segment, 2U);
  EXPECT_EQ(ranges.take(50).segment, 1U);
}

TEST_F(Ranges, a_range_merges_with_both_neighbours) {
  ranges.add(at(0), 100, 1);
  ranges.add(at(200), 100, 1);
  EXPECT_EQ(ranges.size(), 2U);
  ranges.add(at(100), 100, 1);
  EXPECT_EQ(ranges.size(), 1U);
  EXPECT_EQ(take(300), at(0));
}

TEST_F(Ranges, segments_side_by_side_do_not_merge) {
  ranges.add(at(0), 100, 1);
  ranges.add(at(200), 100, 1);
  ranges.add(at(100), 100, 2);
  EXPECT_EQ(ranges.size(), 3U);
  EXPECT_EQ(take(101), nullptr);
}

TEST_F(Ranges, removed_ranges_are_gone) {
  ranges.add(at(0), 100, 1);
  ranges.add(at(200), 100, 1);
  ranges.add(at(300), 100, 2);
  ranges.remove(at(0), 300);
  EXPECT_EQ(ranges.size(), 1U);
  EXPECT_EQ(take(100), at(300));
  ranges.remove(at(0), 300);
}

}  // namespace
}  // namespace ray_hixl::memory
