#include "base/random.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace ray_hixl {
namespace {

TEST(Random, numbers_differ) {
  std::set<std::uint64_t> seen;
  for (int i = 0; i < 1000; ++i) seen.insert(random_u64());
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(Random, fills_all_of_a_long_span) {
  std::vector<std::byte> bytes(1 << 20);
  fill_random(bytes);
  std::set<std::byte> of_the_end(bytes.end() - 4096, bytes.end());
  EXPECT_GT(of_the_end.size(), 200u);
  fill_random({});
}

}  // namespace
}  // namespace ray_hixl
