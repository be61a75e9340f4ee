#include "transport/slices.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace ray_hixl::transport {
namespace {

constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();

// Three ranges of one array, in another order than in memory, with empty ones between: bytes 10..14, 0..2, 20..29.
class SlicesTest : public testing::Test {
 protected:
  std::array<std::byte, 30> memory{};
  static std::shared_ptr<const memory::SlotContent> content(std::byte* base) {
    auto made = std::make_shared<memory::SlotContent>();
    made->ranges = {{base, 0}, {base + 10, 5}, {base, 0}, {base, 0}, {base, 3}, {base + 20, 10}, {base, 0}};
    EXPECT_TRUE(made->measure().is_ok());
    return made;
  }
  const Slices slices{content(memory.data())};
};

TEST_F(SlicesTest, checks_any_numbers) {
  EXPECT_TRUE(slices.check(0, 18).is_ok());
  EXPECT_TRUE(slices.check(18, 0).is_ok());
  EXPECT_TRUE(slices.check(0, 0).is_ok());
  for (const auto& [offset, length] :
       {std::pair{std::uint64_t{0}, std::uint64_t{19}}, {17, 2}, {18, 1}, {19, 0}, {kMost, 1}, {1, kMost}, {kMost, kMost}}) {
    EXPECT_EQ(slices.check(offset, length).code(), Code::kInvalidRegion) << offset << " " << length;
  }
}

TEST_F(SlicesTest, finds_every_byte) {
  std::vector<std::ptrdiff_t> places;
  for (std::uint64_t offset = 0; offset < 18; ++offset) {
    const MemoryRange slice = slices.at(offset, 1);
    EXPECT_EQ(slice.length, 1u);
    places.push_back(slice.address - memory.data());
  }
  EXPECT_EQ(places, (std::vector<std::ptrdiff_t>{10, 11, 12, 13, 14, 0, 1, 2, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29}));
}

TEST_F(SlicesTest, gives_what_lies_together_and_no_more_than_asked_for) {
  EXPECT_EQ(slices.at(1, 100).length, 4u);
  EXPECT_EQ(slices.at(5, 100).length, 3u);
  EXPECT_EQ(slices.at(8, 100).length, 10u);
  EXPECT_EQ(slices.at(8, 6).length, 6u);
}

TEST(Slices, of_nothing_take_nothing) {
  const Slices slices(std::make_shared<memory::SlotContent>());
  EXPECT_TRUE(slices.check(0, 0).is_ok());
  EXPECT_FALSE(slices.check(0, 1).is_ok());
}

}  // namespace
}  // namespace ray_hixl::transport
