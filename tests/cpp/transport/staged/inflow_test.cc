#include "transport/staged/inflow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "support/event.h"
#include "support/eventually.h"
#include "support/pattern.h"
#include "support/scripted_staging.h"
#include "support/shares.h"

namespace ray_hixl::transport::staged {
namespace {

using device::Staging;
using test::Event;
using test::eventually;

const Status kCancelled(Code::kCancelled, "nobody wants it any more");

class Inflow : public testing::Test {
 protected:
  static constexpr std::uint64_t kBuffer = Staging::kBufferBytes;

  ~Inflow() override { devices->stop(); }

  struct Target {
    std::uint64_t length;
    std::int32_t device;  // negative: the host
  };
  // A job that reads into `memory`, which is cut into these.
  std::shared_ptr<Job> job_into(const std::vector<Target>& targets) {
    auto plan = std::make_shared<Plan>();
    plan->sources = {Handle{}};
    std::uint64_t at = 0;
    for (const Target& target : targets) {
      plan->places.push_back({target.device, -1, 0, true});
      plan->pieces.push_back({memory.data() + at, at, target.length, 0, 0, static_cast<std::int32_t>(plan->places.size() - 1)});
      at += target.length;
    }
    auto job = std::make_shared<Job>();
    job->transfer = transfer;
    job->share = test::share_of(plan->pieces);
    job->plan = std::move(plan);
    job->done = [this](const Status& status) {
      result = status;
      ended.set();
    };
    return job;
  }
  std::shared_ptr<stream::Inflow> open(const std::vector<Target>& targets) {
    std::uint64_t bytes = 0;
    for (const Target& target : targets) bytes += target.length;
    memory.assign(bytes, std::byte{0});
    return open_inflow(devices, job_into(targets), [this] { ++told; });
  }
  // Has `bytes` of the pattern come, where there is room in time.
  static void receive(stream::Inflow& inflow, std::uint64_t bytes, std::uint64_t step) {
    std::vector<std::byte> pattern(bytes);
    test::fill_pattern(pattern, 3);
    for (std::uint64_t at = 0; at < bytes;) {
      ASSERT_TRUE(eventually([&] { return !inflow.room().empty(); }));
      const std::uint64_t some = std::min({step, bytes - at, std::uint64_t{inflow.room().size()}});
      std::memcpy(inflow.room().data(), pattern.data() + at, some);
      inflow.received(some);
      at += some;
    }
  }

  test::StagingScript script;
  const std::shared_ptr<device::Devices> devices = std::make_shared<test::ScriptedDevices>(2, script);
  const std::shared_ptr<TransferState> transfer = std::make_shared<TransferState>(Deadline::never());
  std::vector<std::byte> memory;
  Event ended;
  Status result;
  std::atomic<int> told = 0;
};

TEST_F(Inflow, brings_every_byte_to_its_place_through_two_buffers) {
  const auto inflow = open({{10, 0}, {3 * kBuffer + 1, 1}, {kBuffer, -1}, {99, 0}, {kBuffer, 0}});
  receive(*inflow, memory.size(), 300'001);
  inflow->end(Status::ok());
  ASSERT_TRUE(ended.wait());
  EXPECT_TRUE(result.is_ok()) << result.to_string();
  EXPECT_TRUE(test::is_pattern(memory, 3));
  EXPECT_LE(script.allocated, 2u);
  EXPECT_GT(told, 0);
}

// However small the pieces of a buffer are, they do not keep others from the device until all of them are copied.
TEST_F(Inflow, lets_others_in_between_many_small_pieces) {
  std::vector<Target> targets;
  for (int i = 0; i < 3000; ++i) targets.push_back({1 + static_cast<std::uint64_t>(i % 3 == 0), i % 5 == 0 ? -1 : 0});
  Event go_on;
  script.waits = &go_on;
  const auto inflow = open(targets);
  receive(*inflow, memory.size(), 1000);
  ASSERT_TRUE(eventually([&] { return script.began == 1; }));
  Event others_turn;
  int copied = 0;
  ASSERT_TRUE(devices->find(0)
                  ->staging()
                  .run(
                      [&](device::StagingRuntime&) {
                        copied = script.copied;
                        return Status::ok();
                      },
                      [&](const Status&) { others_turn.set(); })
                  .is_ok());
  go_on.set();
  ASSERT_TRUE(others_turn.wait());
  EXPECT_LE(copied, 512);
  inflow->end(Status::ok());
  ASSERT_TRUE(ended.wait());
  EXPECT_TRUE(result.is_ok()) << result.to_string();
  EXPECT_TRUE(test::is_pattern(memory, 3));
}

TEST_F(Inflow, is_not_needed_for_memory_of_the_host) { EXPECT_EQ(open({{10, -1}, {20, -1}}), nullptr); }

TEST_F(Inflow, ends_its_job_when_nothing_is_copied_any_more) {
  Event go_on;
  script.waits = &go_on;
  const auto inflow = open({{2 * kBuffer, 0}});
  receive(*inflow, kBuffer, kBuffer);
  ASSERT_TRUE(eventually([&] { return script.began == 1; }));
  inflow->end(kCancelled);
  EXPECT_TRUE(result.is_ok()) << "it was told too early";
  go_on.set();
  ASSERT_TRUE(ended.wait());
  EXPECT_EQ(result.code(), Code::kCancelled);
}

TEST_F(Inflow, writes_nothing_more_once_its_transfer_stops) {
  const auto inflow = open({{kBuffer, 0}});
  transfer->request_stop(kCancelled);
  receive(*inflow, kBuffer, kBuffer);
  inflow->end(Status::ok());
  ASSERT_TRUE(ended.wait());
  EXPECT_EQ(result.code(), Code::kCancelled);
  EXPECT_EQ(script.began, 0);
}

TEST_F(Inflow, says_what_the_device_says) {
  script.fails = true;
  const auto inflow = open({{kBuffer, 0}});
  receive(*inflow, kBuffer, kBuffer);
  EXPECT_TRUE(eventually([&] { return !inflow->status().is_ok(); }));
  inflow->end(Status::ok());
  ASSERT_TRUE(ended.wait());
  EXPECT_THAT(result.message(), testing::HasSubstr("the device failed"));
}

TEST_F(Inflow, has_no_room_where_there_is_no_memory_and_says_why) {
  script.has_no_memory = true;
  const auto inflow = open({{kBuffer, 0}});
  EXPECT_TRUE(eventually([&] { return inflow->status().code() == Code::kOutOfMemory && told > 0; }));
  EXPECT_TRUE(inflow->room().empty());
}

// More of them than there are buffers: each comes to its turn with one.
TEST_F(Inflow, many_at_once_get_on) {
  constexpr std::size_t kMany = 3 * Staging::kBuffersEachWay;
  std::vector<std::shared_ptr<stream::Inflow>> inflows;
  std::atomic<std::size_t> done = 0;
  memory.assign(2 * kBuffer, std::byte{0});
  for (std::size_t i = 0; i < kMany; ++i) {
    const auto job = job_into({{2 * kBuffer, 0}});
    job->done = [&](const Status& status) { done += status.is_ok() ? 1 : 0; };
    inflows.push_back(open_inflow(devices, job, [] {}));
  }
  for (const auto& inflow : inflows) {
    receive(*inflow, 2 * kBuffer, kBuffer);
    inflow->end(Status::ok());
  }
  EXPECT_TRUE(eventually([&] { return done == kMany; }));
  EXPECT_LE(script.allocated, Staging::kBuffersEachWay);
}

}  // namespace
}  // namespace ray_hixl::transport::staged
