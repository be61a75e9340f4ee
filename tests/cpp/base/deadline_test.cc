#include "base/deadline.h"

#include <gtest/gtest.h>

#include <limits>

namespace ray_hixl {
namespace {

using namespace std::chrono_literals;

TEST(Deadline, passes) {
  EXPECT_TRUE(Deadline::in(0ns).passed());
  EXPECT_EQ(Deadline::in(0ns).remaining(), 0ns);
  const Deadline later = Deadline::in(1h);
  EXPECT_FALSE(later.passed());
  EXPECT_GT(later.remaining(), 59min);
  EXPECT_LE(later.remaining(), 1h);
}

TEST(Deadline, never_never_passes) {
  EXPECT_FALSE(Deadline::never().passed());
  EXPECT_EQ(Deadline::never().remaining(), std::chrono::nanoseconds::max());
  EXPECT_EQ(Deadline::in(std::chrono::nanoseconds::max()).when(), Deadline::never().when());
}

TEST(Deadline, sooner_is_the_earlier_of_two) {
  const Deadline soon = Deadline::in(1s);
  const Deadline late = Deadline::in(1h);
  EXPECT_EQ(soon.sooner(late).when(), soon.when());
  EXPECT_EQ(late.sooner(soon).when(), soon.when());
  EXPECT_EQ(soon.sooner(Deadline::never()).when(), soon.when());
}

TEST(Seconds, become_durations_and_saturate) {
  EXPECT_EQ(seconds_to_duration(1.5), 1500ms);
  EXPECT_EQ(seconds_to_duration(0), 0ns);
  EXPECT_EQ(seconds_to_duration(-1), 0ns);
  EXPECT_EQ(seconds_to_duration(std::numeric_limits<double>::quiet_NaN()), 0ns);
  EXPECT_EQ(seconds_to_duration(1e300), std::chrono::nanoseconds::max());
  EXPECT_EQ(seconds_to_duration(std::numeric_limits<double>::infinity()), std::chrono::nanoseconds::max());
}

}  // namespace
}  // namespace ray_hixl
