#include "device/staging.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <thread>
#include <vector>

#include "support/child.h"
#include "support/event.h"
#include "support/eventually.h"
#include "support/few_descriptors.h"
#include "support/scripted_staging.h"

namespace ray_hixl::device {
namespace {

using test::Event;
using test::eventually;
using Way = Staging::Way;

class StagingTest : public testing::Test {
 protected:
  // Asks for buffers, which come to `taken`.
  void take(Way way, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      staging.take(way, [this](Result<Staging::Buffer> buffer) {
        const std::lock_guard lock(mutex);
        if (buffer.is_ok()) {
          taken.push_back(*std::move(buffer));
        } else {
          errors.push_back(buffer.status().code());
        }
      });
    }
  }
  [[nodiscard]] std::size_t have() const {
    const std::lock_guard lock(mutex);
    return taken.size();
  }
  void drop_one() {
    Staging::Buffer dropped;
    const std::lock_guard lock(mutex);
    dropped = std::move(taken.back());
    taken.pop_back();
  }
  static Status nothing(StagingRuntime&) { return Status::ok(); }
  // Once everything that was asked for before was looked at.
  void settle() {
    Event ran;
    ASSERT_TRUE(staging.run(nothing, [&](const Status&) { ran.set(); }).is_ok());
    ASSERT_TRUE(ran.wait());
  }
  ~StagingTest() override { EXPECT_TRUE(staging.stop(Deadline::never())); }

  test::StagingScript script;
  mutable std::mutex mutex;
  std::vector<Staging::Buffer> taken;
  std::vector<Code> errors;
  const std::shared_ptr<memory::Arena> source = test::source_arena();
  Staging staging{"staging-test", std::make_unique<test::ScriptedStaging>(script), source};
};

TEST_F(StagingTest, gives_so_many_buffers_each_way_and_no_more) {
  take(Way::kOut, Staging::kBuffersEachWay + 3);
  EXPECT_TRUE(eventually([&] { return have() == Staging::kBuffersEachWay; }));
  take(Way::kIn, Staging::kBuffersEachWay + 1);
  EXPECT_TRUE(eventually([&] { return have() == 2 * Staging::kBuffersEachWay; }));
  settle();
  settle();
  EXPECT_EQ(have(), 2 * Staging::kBuffersEachWay);
  EXPECT_EQ(script.allocated, Staging::kBuffersEachWay);
  EXPECT_EQ(script.pinned, Staging::kBuffersEachWay);
}

TEST_F(StagingTest, what_leaves_lies_where_peers_can_map_it) {
  take(Way::kOut, 1);
  ASSERT_TRUE(eventually([&] { return have() == 1; }));
  EXPECT_TRUE(source->find(taken.front().get()));
  EXPECT_EQ(script.allocated, 0u);
  EXPECT_EQ(script.pinned, 1u);
}

// The device copies there all the same.
TEST_F(StagingTest, what_is_pinned_shares_no_page_with_other_blocks) {
  const auto small = source->allocate(100);
  take(Way::kOut, 2);
  EXPECT_TRUE(eventually([&] { return have() == 2; }));
  const auto small_too = source->allocate(100);
  for (const Staging::Buffer& buffer : taken) EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.get()) % 4096, 0u);
  EXPECT_GE((*small_too)->address, std::max(taken[0].get(), taken[1].get()) + Staging::kBufferBytes);
}

TEST_F(StagingTest, does_with_memory_that_cannot_be_pinned) {
  script.cannot_pin = true;
  {
    Staging other("staging-other", std::make_unique<test::ScriptedStaging>(script), source);
    Event came;
    other.take(Way::kOut, [&](const Result<Staging::Buffer>& buffer) {
      EXPECT_TRUE(buffer.is_ok());
      came.set();
    });
    ASSERT_TRUE(came.wait());
    EXPECT_TRUE(other.stop(Deadline::never()));
  }
  EXPECT_EQ(script.unpinned, 0u) << "what was not pinned";
  EXPECT_EQ(source->stats().live_blocks, 0u);
}

TEST_F(StagingTest, hands_a_buffer_that_comes_back_to_who_waits_longest) {
  take(Way::kOut, Staging::kBuffersEachWay);
  ASSERT_TRUE(eventually([&] { return have() == Staging::kBuffersEachWay; }));
  std::vector<int> order;
  for (const int i : {1, 2}) {
    staging.take(Way::kOut, [&, i](const Result<Staging::Buffer>& buffer) {
      const std::lock_guard lock(mutex);
      if (buffer.is_ok()) order.push_back(i);
    });
  }
  drop_one();
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return order.size() == 2;  // the first one drops it at once
  }));
  EXPECT_THAT(order, testing::ElementsAre(1, 2));
  EXPECT_EQ(script.pinned, Staging::kBuffersEachWay);
}

TEST_F(StagingTest, says_where_there_is_no_memory_and_tries_again) {
  script.has_no_memory = true;
  take(Way::kIn, 1);
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex);
    return errors.size() == 1 && errors.front() == Code::kOutOfMemory;
  }));
  script.has_no_memory = false;
  take(Way::kIn, Staging::kBuffersEachWay);
  EXPECT_TRUE(eventually([&] { return have() == Staging::kBuffersEachWay; })) << "the one that was not had counts for nothing";
}

TEST_F(StagingTest, waits_for_a_buffer_where_there_is_no_memory_for_another_one) {
  take(Way::kIn, 2);
  ASSERT_TRUE(eventually([&] { return have() == 2; }));
  script.has_no_memory = true;
  take(Way::kIn, 1);
  settle();
  settle();
  EXPECT_TRUE(errors.empty());
  drop_one();
  EXPECT_TRUE(eventually([&] { return have() == 2; }));
}

TEST_F(StagingTest, asks_for_memory_again_where_there_was_none) {
  Staging other("staging-other", std::make_unique<test::ScriptedStaging>(script), source, std::chrono::milliseconds(20));
  std::vector<Staging::Buffer> buffers(2);
  std::atomic<int> came = 0;
  other.take(Way::kIn, [&](Result<Staging::Buffer> buffer) { buffers[0] = *std::move(buffer), ++came; });
  ASSERT_TRUE(eventually([&] { return came == 1; }));
  script.has_no_memory = true;
  other.take(Way::kIn, [&](Result<Staging::Buffer> buffer) { buffers[1] = *std::move(buffer), ++came; });
  ASSERT_TRUE(eventually([&] { return script.refused > 0; }));
  EXPECT_EQ(came, 1);
  script.has_no_memory = false;
  EXPECT_TRUE(eventually([&] { return came == 2; })) << "it waits for the one that is out";
  buffers.clear();
  EXPECT_TRUE(other.stop(Deadline::never()));
}

// Those who take buffers that bytes leave by may be so many that one of them always waits.
TEST_F(StagingTest, serves_both_ways_by_turns) {
  Event go_on;
  std::vector<Way> order;  // of the thread
  std::atomic<int> served = 0;
  const auto note = [&](Way way) { staging.take(way, [&, way](const Result<Staging::Buffer>&) { order.push_back(way), ++served; }); };
  const auto hold = [&](StagingRuntime&) { return go_on.wait() ? Status::ok() : Status(Code::kInternal, "held too long"); };
  ASSERT_TRUE(staging.run(hold, [](const Status&) {}).is_ok());
  for (int i = 0; i < 3; ++i) note(Way::kOut);
  note(Way::kIn);
  go_on.set();
  ASSERT_TRUE(eventually([&] { return served == 4; }));
  EXPECT_THAT(order, testing::ElementsAre(Way::kOut, Way::kIn, Way::kOut, Way::kOut));
}

// What cannot be mapped then goes over connections, and is mapped again when there are descriptors.
TEST_F(StagingTest, without_descriptors_for_the_arena_bytes_leave_all_the_same) {
  take(Way::kIn, 1);  // the thread runs
  ASSERT_TRUE(eventually([&] { return have() == 1; }));
  {
    const test::FewDescriptors none(0);
    take(Way::kOut, 1);
    ASSERT_TRUE(eventually([&] { return have() == 2; }));
    EXPECT_FALSE(source->find(taken.back().get()));
  }
  take(Way::kOut, 1);
  ASSERT_TRUE(eventually([&] { return have() == 3; }));
  EXPECT_TRUE(source->find(taken.back().get()));
}

// Those who land their bytes queue one copy after the other.
TEST_F(StagingTest, gives_buffers_while_there_is_always_work) {
  std::atomic<bool> enough = false;
  Event ended;
  std::function<void(const Status&)> again = [&](const Status&) {
    if (enough || !staging.run(nothing, again).is_ok()) ended.set();
  };
  ASSERT_TRUE(staging.run(nothing, again).is_ok());
  take(Way::kOut, 1);
  EXPECT_TRUE(eventually([&] { return have() == 1; }));
  enough = true;
  EXPECT_TRUE(ended.wait());
}

// Else a few buffers would keep whole segments, and pinned memory, for as long as the engine lives.
TEST_F(StagingTest, memory_that_nobody_uses_goes_back) {
  Staging other("staging-other", std::make_unique<test::ScriptedStaging>(script), source, std::chrono::milliseconds(20));
  std::vector<Staging::Buffer> buffers(2);
  std::atomic<int> came = 0;
  other.take(Way::kOut, [&](Result<Staging::Buffer> buffer) { buffers[0] = *std::move(buffer), ++came; });
  other.take(Way::kIn, [&](Result<Staging::Buffer> buffer) { buffers[1] = *std::move(buffer), ++came; });
  ASSERT_TRUE(eventually([&] { return came == 2; }));
  EXPECT_EQ(source->stats().live_blocks, 1u);
  buffers.clear();
  EXPECT_TRUE(eventually([&] { return script.freed == 1 && script.unpinned == 1 && source->stats().live_blocks == 0; }));
  EXPECT_TRUE(other.stop(Deadline::never()));
}

TEST_F(StagingTest, stop_runs_what_was_asked_for_and_refuses_who_waits) {
  take(Way::kOut, Staging::kBuffersEachWay + 1);
  ASSERT_TRUE(eventually([&] { return have() == Staging::kBuffersEachWay; }));
  Event go_on;
  script.waits = &go_on;
  std::byte from{1};
  std::byte to{0};
  std::atomic<int> copied = 0;
  for (int i = 0; i < 2; ++i) {
    const auto copy = [&](StagingRuntime& runtime) { return runtime.to_host(&to, &from, 1); };
    ASSERT_TRUE(staging.run(copy, [&](const Status& status) { copied += status.is_ok() ? 1 : 0; }).is_ok());
  }
  std::jthread stopping([&] { EXPECT_TRUE(staging.stop(Deadline::never())); });
  go_on.set();
  stopping.join();
  EXPECT_EQ(copied, 2);
  EXPECT_THAT(errors, testing::ElementsAre(Code::kClosed));
  take(Way::kOut, 1);
  EXPECT_THAT(errors, testing::ElementsAre(Code::kClosed, Code::kClosed));
  EXPECT_EQ(staging.run(nothing, nullptr).code(), Code::kClosed);
}

// What it would tell of is gone when the copy comes back after all.
TEST_F(StagingTest, stop_leaves_a_copy_behind_that_does_not_end) {
  struct Kept {
    test::StagingScript script;
    Event go_on;
    std::atomic<int> told = 0;
    std::byte from{1};
    std::byte to{0};
  };
  Kept& kept = *new Kept;  // the thread stays
  kept.script.waits = &kept.go_on;
  Staging other("staging-other", std::make_unique<test::ScriptedStaging>(kept.script), source);
  const auto copy = [&kept](StagingRuntime& runtime) { return runtime.to_host(&kept.to, &kept.from, 1); };
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(other.run(copy, [&kept](const Status&) { ++kept.told; }).is_ok());
  ASSERT_TRUE(eventually([&] { return kept.script.began == 1; }));
  EXPECT_FALSE(other.stop(Deadline::in(std::chrono::milliseconds(20))));
  kept.go_on.set();
  EXPECT_TRUE(eventually([&] { return kept.script.copied == 1; }));
  EXPECT_FALSE(other.stop(Deadline::never()));
  EXPECT_EQ(kept.told, 0);
  EXPECT_EQ(kept.script.began, 1);
}

TEST_F(StagingTest, buffers_outlive_it) {
  for (const Way way : {Way::kIn, Way::kOut}) {
    {
      Staging other("staging-other", std::make_unique<test::ScriptedStaging>(script), source);
      other.take(way, [this](Result<Staging::Buffer> buffer) {
        const std::lock_guard lock(mutex);
        taken.push_back(*std::move(buffer));
      });
      ASSERT_TRUE(eventually([&] { return have() == 1; }));
      EXPECT_TRUE(other.stop(Deadline::never()));
    }
    EXPECT_EQ(way == Way::kIn ? script.freed : script.unpinned, 0u);
    drop_one();
    EXPECT_EQ(way == Way::kIn ? script.freed : script.unpinned, 1u);
  }
  EXPECT_EQ(source->stats().live_blocks, 0u);
}

TEST_F(StagingTest, refuses_in_a_forked_child) {
  take(Way::kIn, 1);
  ASSERT_TRUE(eventually([&] { return have() == 1; }));
  EXPECT_TRUE(test::in_child([this] {
    const bool refuses = staging.run(nothing, nullptr).code() == Code::kClosed;
    drop_one();
    return staging.stop(Deadline::never()) && refuses;
  }));
}

// The runtime may need the device for it, which the thread has.
TEST_F(StagingTest, memory_is_freed_by_the_thread_that_took_it) {
  for (const Way way : {Way::kIn, Way::kOut}) {
    take(way, 3);
    ASSERT_TRUE(eventually([&] { return have() == (way == Way::kIn ? 3u : 4u); }));
    taken.resize(way == Way::kIn ? 1 : 2);
  }
  EXPECT_TRUE(staging.stop(Deadline::never()));
  EXPECT_EQ(script.freed, 2u) << "what was idle";
  EXPECT_EQ(script.unpinned, 2u);
  taken.clear();
}

}  // namespace
}  // namespace ray_hixl::device
