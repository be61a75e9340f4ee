#include "ray_hixl/status.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>

namespace ray_hixl {
namespace {

TEST(Status, is_ok_by_default) {
  const Status status;
  EXPECT_TRUE(status.is_ok());
  EXPECT_EQ(status.code(), Code::kOk);
  EXPECT_EQ(status.message(), "");
  EXPECT_EQ(status.to_string(), "ok");
  EXPECT_TRUE(Status::ok().is_ok());
}

TEST(Status, says_its_code_and_message) {
  const Status status(Code::kPeerGone, "it left");
  EXPECT_FALSE(status.is_ok());
  EXPECT_EQ(status.code(), Code::kPeerGone);
  EXPECT_EQ(status.message(), "it left");
  EXPECT_EQ(status.to_string(), "peer_gone: it left");
}

TEST(Status, takes_context_in_front_and_keeps_its_code) {
  const Status status = Status(Code::kClosed, "shut").with_context("object 7");
  EXPECT_EQ(status.code(), Code::kClosed);
  EXPECT_EQ(status.message(), "object 7: shut");
  EXPECT_TRUE(Status::ok().with_context("object 7").is_ok());
}

TEST(Status, copies_are_equal_and_independent_of_the_first) {
  auto first = std::make_unique<Status>(Code::kInternal, "x");
  const Status copy = *first;
  first.reset();
  EXPECT_EQ(copy.to_string(), "internal: x");
}

TEST(Status, every_code_has_a_name_of_its_own) {
  std::set<std::string_view> names;
  for (int code = 0; code <= static_cast<int>(Code::kDeviceBusy); ++code) names.insert(code_name(static_cast<Code>(code)));
  EXPECT_EQ(names.size(), static_cast<std::size_t>(Code::kDeviceBusy) + 1);
  EXPECT_THAT(names, testing::Not(testing::Contains("unknown")));
  EXPECT_EQ(code_name(static_cast<Code>(200)), "unknown");
}

Status fails_in_the_middle(bool fail, bool& reached_the_end) {
  RAY_HIXL_RETURN_IF_ERROR(fail ? Status(Code::kCancelled, "enough") : Status::ok());
  reached_the_end = true;
  return Status::ok();
}

TEST(Status, macro_leaves_the_function_with_the_first_error) {
  bool reached_the_end = false;
  EXPECT_EQ(fails_in_the_middle(true, reached_the_end).code(), Code::kCancelled);
  EXPECT_FALSE(reached_the_end);
  EXPECT_TRUE(fails_in_the_middle(false, reached_the_end).is_ok());
  EXPECT_TRUE(reached_the_end);
}

TEST(Result, holds_a_value_or_a_status) {
  const Result<int> value = 7;
  ASSERT_TRUE(value.is_ok());
  EXPECT_EQ(*value, 7);
  EXPECT_TRUE(value.status().is_ok());
  const Result<int> error = Status(Code::kOutOfMemory, "no room");
  EXPECT_FALSE(error.is_ok());
  EXPECT_EQ(error.status().message(), "no room");
}

TEST(Result, gives_away_values_that_cannot_be_copied) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  const std::unique_ptr<int> taken = *std::move(result);
  EXPECT_EQ(*taken, 5);
}

}  // namespace
}  // namespace ray_hixl
