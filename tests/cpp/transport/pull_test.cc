#include "transport/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "support/event.h"
#include "support/pattern.h"
#include "support/sizes.h"

namespace ray_hixl::transport {
namespace {

using namespace std::chrono_literals;
using test::Event;
using test::kMiB;

// Notes what it was asked to move; waits or fails where a test says so.
class RecordingMover final : public Mover {
 public:
  Status move(std::span<const Copy> copies) override {
    const std::lock_guard lock(mutex);
    if (before) before();
    calls.emplace_back(copies.begin(), copies.end());
    return result;
  }
  std::mutex mutex;
  std::vector<std::vector<Copy>> calls;
  std::function<void()> before;
  Status result;
};

std::byte* const kTarget = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 40);  // nobody writes there

class PullTest : public testing::Test {
 protected:
  std::shared_ptr<Job> job(Deadline deadline = Deadline::never()) {
    auto made = std::make_shared<Job>();
    made->transfer = std::make_shared<TransferState>(deadline);
    made->done = [this](const Status& status) {
      result = status;
      ended.set();
    };
    return made;
  }
  Status pull(const std::shared_ptr<Job>& given, std::span<const Copy> copies) {
    puller.pull(given, puller.cut({copies.begin(), copies.end()}), mover);
    EXPECT_TRUE(ended.wait());
    return result;
  }
  [[nodiscard]] std::uint64_t counted() const { return counters.fetched[static_cast<std::size_t>(control::TransportKind::kCma)]; }

  memory::CopyPool pool{2};
  Counters counters;
  Puller puller{pool, counters, control::TransportKind::kCma};
  std::shared_ptr<RecordingMover> mover = std::make_shared<RecordingMover>();
  Event ended;
  Status result;
};

TEST_F(PullTest, moves_a_small_job_in_the_calling_thread) {
  std::thread::id thread;
  mover->before = [&] { thread = std::this_thread::get_id(); };
  const auto small = job();
  EXPECT_TRUE(pull(small, std::vector<Copy>{{kTarget, 0, 1000}}).is_ok());
  EXPECT_EQ(thread, std::this_thread::get_id());
  EXPECT_EQ(counted(), 1000u);
  EXPECT_EQ(small->transfer->bytes_by_transport().front().bytes, 1000u);
}

TEST_F(PullTest, moves_a_large_one_on_the_pool) {
  std::atomic<bool> here{false};
  mover->before = [&, me = std::this_thread::get_id()] { here = here || std::this_thread::get_id() == me; };
  EXPECT_TRUE(pull(job(), std::vector<Copy>{{kTarget, 0, kMiB + 1}}).is_ok());
  EXPECT_FALSE(here);
}

TEST_F(PullTest, of_nothing_succeeds) { EXPECT_TRUE(pull(job(), {}).is_ok()); }

TEST_F(PullTest, ends_with_the_first_error_and_does_not_count_what_failed) {
  mover->result = Status(Code::kPeerGone, "it left");
  EXPECT_EQ(pull(job(), std::vector<Copy>{{kTarget, 0, 64 * kMiB}}).code(), Code::kPeerGone);
  EXPECT_LE(mover->calls.size(), 2u);  // the parts that were under way
  EXPECT_EQ(counted(), 0u);
}

TEST_F(PullTest, stops_at_the_next_part) {
  const auto cancelled = job();
  mover->before = [&] { cancelled->transfer->request_stop(Status(Code::kCancelled, "enough")); };
  EXPECT_EQ(pull(cancelled, std::vector<Copy>{{kTarget, 0, 64 * kMiB}}).code(), Code::kCancelled);
  EXPECT_LE(mover->calls.size(), 2u);
}

TEST_F(PullTest, does_not_begin_after_the_deadline) {
  EXPECT_EQ(pull(job(Deadline::in(0ns)), std::vector<Copy>{{kTarget, 0, 10}}).code(), Code::kTransferTimeout);
  EXPECT_TRUE(mover->calls.empty());
}

TEST_F(PullTest, ends_at_the_next_part_once_it_is_closed_and_takes_no_more) {
  mover->before = [&] { puller.close(Status(Code::kPeerGone, "first reason")); };
  EXPECT_EQ(pull(job(), std::vector<Copy>{{kTarget, 0, 64 * kMiB}}).message(), "first reason");
  puller.close(Status(Code::kClosed, "second reason"));
  Event later;
  const auto refused = job();
  refused->done = [&](const Status& status) {
    EXPECT_EQ(status.message(), "first reason");
    later.set();
  };
  puller.pull(refused, puller.cut({{kTarget, 0, 1}}), mover);
  EXPECT_TRUE(later.wait());
}

TEST_F(PullTest, is_refused_by_a_pool_that_was_stopped) {
  pool.stop();
  EXPECT_EQ(pull(job(), std::vector<Copy>{{kTarget, 0, kMiB + 1}}).code(), Code::kClosed);
}

TEST_F(PullTest, counts_the_bytes_of_all_parts) {
  EXPECT_TRUE(pull(job(), std::vector<Copy>{{kTarget, 0, 9 * kMiB}}).is_ok());
  EXPECT_GT(mover->calls.size(), 2u);
  EXPECT_EQ(counted(), 9 * kMiB);
}

TEST_F(PullTest, copies_now_what_is_little_and_open_and_counts_nothing) {
  const auto little = puller.cut({{kTarget, 0, 1000}});
  EXPECT_TRUE(puller.copy_now(*little, *mover));
  EXPECT_EQ(mover->calls.size(), 1u);
  EXPECT_EQ(counted(), 0u);
  EXPECT_FALSE(puller.copy_now(*puller.cut({{kTarget, 0, kMiB + 1}}), *mover)) << "too many bytes";
  std::vector<Copy> many;
  for (std::uint64_t i = 0; i < 10000; ++i) many.push_back({kTarget, 2 * i, 1});
  EXPECT_FALSE(puller.copy_now(*puller.cut(std::move(many)), *mover)) << "a deadline would not be heard meanwhile";
  EXPECT_EQ(mover->calls.size(), 1u);
  mover->result = Status(Code::kInvalidRegion, "not mapped");
  EXPECT_FALSE(puller.copy_now(*little, *mover));
  mover->result = Status::ok();
  puller.close(Status(Code::kClosed, "closed"));
  EXPECT_FALSE(puller.copy_now(*little, *mover));
}

TEST_F(PullTest, moves_many_short_copies_on_the_pool) {
  std::vector<Copy> many;
  for (std::uint64_t i = 0; i < 10000; ++i) many.push_back({kTarget, 2 * i, 1});
  std::atomic<bool> here{false};
  mover->before = [&, me = std::this_thread::get_id()] { here = here || std::this_thread::get_id() == me; };
  EXPECT_TRUE(pull(job(), many).is_ok());
  EXPECT_FALSE(here);
  EXPECT_GT(mover->calls.size(), 1u);
}

class MemoryMover : public PullTest, public testing::WithParamInterface<std::size_t> {};

TEST_P(MemoryMover, copies_and_keeps_what_it_was_given) {
  const std::vector<std::byte> from = test::make_pattern(GetParam(), 1);
  std::vector<std::byte> to(from.size());
  auto held = std::make_shared<int>(0);
  const std::weak_ptr<int> watch = held;
  auto copies = puller.cut({{to.data(), reinterpret_cast<std::uint64_t>(from.data()), 100},
                            {to.data() + 100, reinterpret_cast<std::uint64_t>(from.data()) + 100, from.size() - 100}});
  puller.pull(job(), copies, memory_mover(std::move(held), copies->bytes()));
  ASSERT_TRUE(ended.wait());
  EXPECT_EQ(to, from);
  pool.stop();
  EXPECT_TRUE(watch.expired());
}

// Through the caches, and around them.
INSTANTIATE_TEST_SUITE_P(Bytes, MemoryMover, testing::Values(100000, 40 * kMiB + 5));

}  // namespace
}  // namespace ray_hixl::transport
