#include "device/fences.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "support/yardstick.h"

namespace ray_hixl::device {
namespace {

using namespace std::chrono_literals;

// Passed when it is asked so often.
class Countdown final : public Fence {
 public:
  explicit Countdown(int looks) : looks_(looks) {}
  Result<bool> passed() override {
    if (looks_ < 0) return Status(Code::kNotAvailable, "the device is lost");
    return --looks_ <= 0;
  }

 private:
  int looks_;
};

Status fine() { return Status::ok(); }

TEST(Fences, are_waited_for) {
  Countdown fence(50);
  EXPECT_TRUE(wait_for(fence, 0, Deadline::never(), "the test", fine).is_ok());
}

TEST(Fences, that_are_passed_are_looked_at_once_even_after_the_deadline) {
  Countdown fence(1);
  const auto go_on = [] { return Status(Code::kInternal, "asked"); };
  EXPECT_TRUE(wait_for(fence, 0, Deadline::in(0ns), "the test", go_on).is_ok());
}

TEST(Fences, have_until_the_deadline) {
  Countdown fence(1'000'000'000);
  const auto begin = Clock::now();
  const Status status = wait_for(fence, 3, Deadline::in(200ms), "the test", fine);
  EXPECT_GE(Clock::now() - begin, 200ms);
  EXPECT_LT(Clock::now() - begin, test::scaled(2s));
  EXPECT_EQ(status.code(), Code::kDeviceBusy);
  EXPECT_THAT(status.message(),
              testing::ContainsRegex("^npu:3 was busy for [0-9.]+ s with work that was queued before the test on the same stream"));
}

TEST(Fences, fail_with_what_they_say_or_what_speaks_against_going_on) {
  Countdown lost(-1);
  EXPECT_EQ(wait_for(lost, 0, Deadline::never(), "the test", fine).message(), "the device is lost");
  Countdown fence(1'000'000'000);
  const auto closed = [] { return Status(Code::kClosed, "closed"); };
  EXPECT_EQ(wait_for(fence, 0, Deadline::never(), "the test", closed).code(), Code::kClosed);
}

}  // namespace
}  // namespace ray_hixl::device
