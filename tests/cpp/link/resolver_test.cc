#include "link/resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "support/event.h"
#include "support/held_port.h"

namespace ray_hixl::link {
namespace {

using test::HeldPort;
using test::reply_of;
using transport::RemoteMemory;

TEST(Resolution, finds_the_range_of_every_byte) {
  const Resolution resolution({{{1000, 5}, {0, 0}, {2000, 3}}, {}});
  EXPECT_EQ(resolution.length, 8u);
  ASSERT_EQ(resolution.ranges.size(), 2u) << "empty ranges are left out";
  EXPECT_EQ(memory::range_at(resolution.starts, 0), 0u);
  EXPECT_EQ(memory::range_at(resolution.starts, 4), 0u);
  EXPECT_EQ(memory::range_at(resolution.starts, 5), 1u);
  EXPECT_EQ(memory::range_at(resolution.starts, 7), 1u);
}

TEST(Resolution, knows_what_lies_in_the_source_arena) {
  const Resolution resolution({{{1000, 5}}, {{2, 5000, 100}, {1, 1000, 100}}});
  EXPECT_EQ(resolution.memory_at(999), RemoteMemory::kOrdinary);
  EXPECT_EQ(resolution.memory_at(1000), RemoteMemory::kSourceArena);
  EXPECT_EQ(resolution.memory_at(1099), RemoteMemory::kSourceArena);
  EXPECT_EQ(resolution.memory_at(1100), RemoteMemory::kOrdinary);
  EXPECT_EQ(resolution.memory_at(5099), RemoteMemory::kSourceArena);
}

class ResolverTest : public testing::Test {
 protected:
  using Answered = Result<std::shared_ptr<const Resolution>>;
  // Asks; the answer is put at the end of `answers`.
  void resolve(const Handle& which) {
    resolver.resolve(which, who, [this](const Answered& answer) { answers.push_back(answer); });
  }
  void reply(std::size_t request, std::uint64_t ranges = 1) {
    control::Resolved resolved;
    for (std::uint64_t i = 0; i < ranges; ++i) resolved.ranges.push_back({1000 + 10 * i, 10});
    port.asked.at(request)(reply_of(control::encode(request + 1, resolved)));
  }

  HeldPort port;
  memory::CopyPool pool{1};
  memory::Reaper reaper;
  const std::shared_ptr<Resolver> kept = std::make_shared<Resolver>(port, pool, reaper);
  Resolver& resolver = *kept;
  std::shared_ptr<const int> who = std::make_shared<const int>(0);
  std::vector<Answered> answers;
  const std::thread::id test_thread = std::this_thread::get_id();
  const Handle handle{3, 5, 7};
};

TEST_F(ResolverTest, asks_once_and_remembers) {
  resolve(handle);
  resolve(handle);
  ASSERT_EQ(port.asked.size(), 1u);
  EXPECT_EQ(control::decode_resolve(reply_of(port.frames[0]).body())->handle, handle);
  EXPECT_TRUE(answers.empty());
  reply(0);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ((*answers[0])->ranges[0].address, 1000u);
  EXPECT_EQ(*answers[0], *answers[1]);
  resolve(handle);
  EXPECT_EQ(answers.size(), 3u);
  EXPECT_EQ(port.asked.size(), 1u);
}

TEST_F(ResolverTest, asks_again_for_what_it_was_told_to_forget) {
  resolve(handle);
  reply(0);
  resolver.forget(handle);
  resolver.forget({9, 9, 9});
  resolve(handle);
  EXPECT_EQ(port.asked.size(), 2u);
}

TEST_F(ResolverTest, remembers_no_failure) {
  resolve(handle);
  port.asked[0](Status(Code::kInvalidRegion, "closed"));
  resolve(handle);
  port.asked[1](reply_of(control::encode(2, control::Segment{4096})));
  resolve(handle);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].status().code(), Code::kInvalidRegion);
  EXPECT_EQ(answers[1].status().code(), Code::kInternal) << "an answer to something else";
  EXPECT_EQ(port.asked.size(), 3u);
}

TEST_F(ResolverTest, does_not_collect_askers_who_gave_up) {
  const auto held = std::make_shared<const int>(0);
  resolve(handle);
  for (int i = 0; i < 1000; ++i) {
    const auto gave_up = std::make_shared<const int>(i);
    resolver.resolve(handle, gave_up, [held](const Answered&) {});
  }
  EXPECT_LT(held.use_count(), 8);
  reply(0);
  EXPECT_EQ(answers.size(), 1u) << "who still waits is answered";
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(ResolverTest, remembers_far_more_slots_than_a_batch_has) {
  for (std::uint32_t slot = 0; slot < 20000; ++slot) {
    resolve({slot, 1, slot});
    reply(slot);
  }
  for (std::uint32_t slot = 0; slot < 20000; ++slot) resolve({slot, 1, slot});
  EXPECT_EQ(port.asked.size(), 20000u);
}

TEST_F(ResolverTest, forgets_what_was_not_used_for_long) {
  constexpr std::uint64_t kRanges = 2000;  // few enough to be decoded at once
  const Resolution one({std::vector<control::RemoteRange>(kRanges, {1, 1}), {}});
  const auto most = static_cast<std::uint32_t>(Resolver::kMostBytes / one.bytes());
  for (std::uint32_t slot = 0; slot < most; ++slot) {
    resolve({slot, 1, slot});
    reply(slot, kRanges);
  }
  resolve({0, 1, 0});  // used again, so not the oldest
  resolve({5000, 1, 5000});
  reply(most, kRanges);
  EXPECT_EQ(port.asked.size(), most + 1);
  resolve({0, 1, 0});
  EXPECT_EQ(port.asked.size(), most + 1);
  resolve({1, 1, 1});
  EXPECT_EQ(port.asked.size(), most + 2);
}

TEST_F(ResolverTest, decodes_a_large_answer_on_a_copy_thread) {
  test::Event answered;
  resolver.resolve(handle, who, [&](const Answered& answer) {
    EXPECT_EQ((*answer)->ranges.size(), 10000u);
    EXPECT_NE(std::this_thread::get_id(), test_thread);
    answered.set();
  });
  reply(0, 10000);
  EXPECT_TRUE(answered.wait());
}

}  // namespace
}  // namespace ray_hixl::link
