// What a job copies: joined, and cut so that threads share it evenly.
#include "transport/copies.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/sizes.h"

namespace ray_hixl::transport {

bool operator==(const Copy& a, const Copy& b) { return a.to == b.to && a.from == b.from && a.length == b.length; }

namespace {

using test::kMiB;
using testing::ElementsAre;
using testing::SizeIs;

std::byte* at(std::uintptr_t address) { return reinterpret_cast<std::byte*>(address); }

std::vector<Copy> all(const Copies& copies) {
  std::vector<Copy> found;
  for (std::size_t i = 0; i < copies.parts(); ++i) found.insert(found.end(), copies.part(i).begin(), copies.part(i).end());
  return found;
}

std::uint64_t bytes_of(std::span<const Copy> part) {
  std::uint64_t bytes = 0;
  for (const Copy& copy : part) bytes += copy.length;
  return bytes;
}

TEST(Copies, of_nothing_have_no_part) {
  const Copies none({}, 2);
  EXPECT_EQ(none.parts(), 0u);
  EXPECT_EQ(none.bytes(), 0u);
}

TEST(Copies, join_neighbours_of_both_sides) {
  const Copies copies({{at(100), 1000, 10}, {at(110), 1010, 20}, {at(130), 1031, 5}, {at(136), 1036, 5}, {at(141), 1041, 1}}, 1);
  EXPECT_THAT(all(copies), ElementsAre(Copy{at(100), 1000, 30}, Copy{at(130), 1031, 5}, Copy{at(136), 1036, 6}));
  EXPECT_EQ(copies.bytes(), 41u);
}

TEST(Copies, of_one_long_range_are_cut_evenly_for_the_threads) {
  for (const std::size_t threads : {1, 2, 3, 4}) {
    const Copies copies({{at(kMiB), 7 * kMiB, 9 * kMiB}}, threads);
    EXPECT_EQ(copies.parts() % threads, 0u) << threads;
    std::uint64_t next = kMiB;
    for (std::size_t i = 0; i < copies.parts(); ++i) {
      ASSERT_THAT(copies.part(i), SizeIs(1));
      EXPECT_EQ(copies.part(i)[0].to, at(next));
      EXPECT_EQ(copies.part(i)[0].from, next + 6 * kMiB);
      EXPECT_LE(copies.part(i)[0].length, 4 * kMiB);
      EXPECT_GE(copies.part(i)[0].length, 9 * kMiB / copies.parts() - 8192) << "no part is a rest";
      next += copies.part(i)[0].length;
    }
    EXPECT_EQ(next, 10 * kMiB);
  }
}

TEST(Copies, of_little_are_one_part) {
  EXPECT_EQ(Copies({{at(kMiB), 0, 4096}}, 4).parts(), 1u);
  EXPECT_EQ(Copies({{at(kMiB), 0, kMiB}}, 4).parts(), 1u);
  EXPECT_EQ(Copies({{at(kMiB), 0, kMiB + 1}}, 4).parts(), 4u);
}

TEST(Copies, that_cost_more_are_fewer_in_a_part) {
  std::vector<Copy> whole;
  for (std::uintptr_t i = 0; i < 10000; ++i) whole.push_back({at(kMiB + i * 200), i * 300, 64});
  const Copies cheap(whole, 1, 1024);
  const Copies dear(whole, 1, 8192);
  EXPECT_EQ(all(dear), whole);
  EXPECT_LE(dear.part(0).size(), 512u);
  EXPECT_GT(dear.parts(), 4 * cheap.parts());
}

TEST(Copies, that_are_many_and_short_share_parts_which_are_as_long_as_few_long_ones) {
  std::vector<Copy> whole;
  for (std::uintptr_t i = 0; i < 100000; ++i) whole.push_back({at(kMiB + i * 200), i * 300, 64});
  const std::vector<Copy> expected = whole;
  const Copies copies(std::move(whole), 2);
  EXPECT_EQ(all(copies), expected);
  EXPECT_EQ(copies.parts(), 26u) << "by their number, not by 6 MB";
  for (std::size_t i = 0; i < copies.parts(); ++i) EXPECT_LE(copies.part(i).size(), 4097u);
}

TEST(Copies, lose_no_byte_where_parts_end_anywhere) {
  std::vector<Copy> whole;
  std::uintptr_t to = kMiB;
  for (std::uint64_t i = 1; i < 300; ++i) {
    whole.push_back({at(to), 3 * to, i * 997});
    to += i * 997 + 1;
  }
  const std::uint64_t bytes = bytes_of(whole);
  const Copies copies(whole, 3);
  EXPECT_EQ(copies.bytes(), bytes);
  std::size_t index = 0;
  std::uint64_t done = 0;  // of that one
  for (const Copy& copy : all(copies)) {
    ASSERT_EQ(copy.to, whole[index].to + done);
    ASSERT_EQ(copy.from, whole[index].from + done);
    done += copy.length;
    if (done < whole[index].length) continue;
    ASSERT_EQ(done, whole[index++].length);
    done = 0;
  }
  EXPECT_EQ(index, whole.size());
}

}  // namespace
}  // namespace ray_hixl::transport
