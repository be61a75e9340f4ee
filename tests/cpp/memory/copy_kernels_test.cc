// Every copy kernel that this CPU runs copies what it is asked to, and nothing else.
#include "memory/copy_kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "support/pattern.h"

namespace ray_hixl::memory {
namespace {

using testing::StrEq;

class CopyKernelTest : public testing::TestWithParam<std::size_t> {
 protected:
  void SetUp() override {
    if (!kernel.runs_here()) GTEST_SKIP() << kernel.name << " does not run on this CPU";
  }
  const CopyKernel& kernel = copy_kernels()[GetParam()];
};

TEST_P(CopyKernelTest, copies_any_length_from_and_to_anywhere) {
  constexpr std::size_t kMost = 9 * 4096 + 200;
  constexpr std::size_t kGuard = 128;
  const std::vector<std::byte> source = test::make_pattern(kMost + 64, 1);
  const std::vector<std::byte> untouched = test::make_pattern(kMost + 2 * kGuard, 2);
  for (const std::size_t length : {0, 1, 63, 64, 65, 127, 4095, 4096, 16383, 16384, 16385 + 64, 4 * 4096 + 4095, 9 * 4096 + 77}) {
    for (const std::size_t from : {0, 1, 31, 63}) {
      for (const std::size_t to : {0, 1, 32, 63}) {
        std::vector<std::byte> target = untouched;
        kernel.stream(target.data() + kGuard + to, source.data() + from, length);
        kernel.fence();
        std::vector<std::byte> expected = untouched;
        std::copy_n(source.begin() + static_cast<std::ptrdiff_t>(from), length,
                    expected.begin() + static_cast<std::ptrdiff_t>(kGuard + to));
        ASSERT_EQ(target, expected) << length << " bytes from " << from << " to " << to;
      }
    }
  }
}

std::string name_of(const testing::TestParamInfo<std::size_t>& parameter) {
  std::string name = copy_kernels()[parameter.param].name;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, CopyKernelTest, testing::Range(std::size_t{0}, copy_kernels().size()), name_of);

TEST(CopyKernels, are_chosen_by_name) {
  for (const CopyKernel& kernel : copy_kernels()) {
    if (!kernel.runs_here()) continue;
    EXPECT_THAT(find_copy_kernel(kernel.name).name, StrEq(kernel.name));
  }
}

TEST(CopyKernels, of_no_such_name_are_the_best_one) {
  EXPECT_EQ(&find_copy_kernel("mmx"), &find_copy_kernel(""));
  EXPECT_TRUE(find_copy_kernel("").runs_here());
}

TEST(CopyKernels, end_with_memcpy) { EXPECT_THAT(copy_kernels().back().name, StrEq("memcpy")); }

}  // namespace
}  // namespace ray_hixl::memory
