#include "runtime/elements.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

namespace fake_cann {
namespace {

double round_trip(int type, const Number& number) {
  std::array<std::byte, 16> bytes{};
  store(bytes.data(), type, number);
  return load(bytes.data(), type).real;
}

TEST(Elements, of_every_arithmetic_type_come_back) {
  for (int type = 0; type <= kLastFloat8; ++type) {
    if (!is_arithmetic(type)) continue;
    EXPECT_EQ(round_trip(type, whole_number(1)), 1.0) << type;
    EXPECT_EQ(round_trip(type, real_number(0)), 0.0) << type;
    EXPECT_EQ(round_trip(type, real_number(2.5)), is_floating(type) ? 2.5 : type == kBool ? 1.0 : 2.0) << type;
  }
}

TEST(Elements, of_half_precision_are_rounded_to_the_nearest_even) {
  EXPECT_EQ(round_trip(kFloat16, real_number(2049)), 2048.0);
  EXPECT_EQ(round_trip(kFloat16, real_number(2051)), 2052.0);
  EXPECT_EQ(round_trip(kFloat16, real_number(65519)), 65504.0);
  EXPECT_TRUE(std::isinf(round_trip(kFloat16, real_number(65520))));
  EXPECT_TRUE(std::isnan(round_trip(kFloat16, real_number(std::numeric_limits<double>::quiet_NaN()))));
  EXPECT_EQ(round_trip(kFloat16, real_number(std::ldexp(1.0, -24))), std::ldexp(1.0, -24));
  EXPECT_EQ(round_trip(kFloat16, real_number(std::ldexp(1.0, -26))), 0.0);
  EXPECT_EQ(round_trip(kBFloat16, real_number(257)), 256.0);
  EXPECT_EQ(round_trip(kBFloat16, real_number(259)), 260.0);
}

TEST(Elements, that_are_only_copied_have_a_size) {
  EXPECT_EQ(element_size(kComplex128), 16u);
  EXPECT_EQ(element_size(kFirstFloat8), 1u);
  EXPECT_EQ(element_size(99), 0u);
  EXPECT_FALSE(is_arithmetic(kComplex64));
}

}  // namespace
}  // namespace fake_cann
