#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "support/child.h"

namespace ray_hixl {
namespace {

using testing::ElementsAre;
using testing::Pair;

class Log : public testing::Test {
 protected:
  ~Log() override {
    set_log_sink(nullptr);
    set_log_level(LogLevel::kWarning);
  }
};

TEST_F(Log, goes_to_the_sink_from_the_lowest_level_on) {
  std::vector<std::pair<LogLevel, std::string>> lines;
  set_log_sink([&](LogLevel level, std::string_view message) { lines.emplace_back(level, message); });
  log(LogLevel::kInfo, "not by default");
  log(LogLevel::kError, "told");
  set_log_level(LogLevel::kDebug);
  log(LogLevel::kDebug, "now");
  EXPECT_THAT(lines, ElementsAre(Pair(LogLevel::kError, "told"), Pair(LogLevel::kDebug, "now")));
}

TEST_F(Log, goes_to_stderr_without_a_sink) {
  testing::internal::CaptureStderr();
  log(LogLevel::kWarning, "look");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "ray-hixl warning: look\n");
}

TEST_F(Log, sink_may_log_and_replace_itself) {
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, std::string_view message) {
    lines.emplace_back(message);
    set_log_sink([&](LogLevel, std::string_view next) { lines.emplace_back("second: " + std::string(next)); });
    log(LogLevel::kError, "inner");
  });
  log(LogLevel::kError, "outer");
  EXPECT_THAT(lines, ElementsAre("outer", "second: inner"));
}

TEST_F(Log, sink_may_log_when_it_ends) {
  EXPECT_TRUE(test::in_child([] {  // which ends in any case
    bool told = false;
    set_log_sink(
        [farewell = std::shared_ptr<void>(nullptr, [](void*) { log(LogLevel::kError, "farewell"); })](LogLevel, std::string_view) {});
    set_log_sink([&](LogLevel, std::string_view) { told = true; });
    return told;
  }));
}

}  // namespace
}  // namespace ray_hixl
