#include "transport/transfer_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <thread>

namespace ray_hixl::transport {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

const Status kCancelled(Code::kCancelled, "enough");
const Status kGone(Code::kPeerGone, "it left");

TEST(TransferState, ends_once_with_the_first_result) {
  TransferState state(Deadline::never());
  EXPECT_FALSE(state.done());
  EXPECT_TRUE(state.finish(kGone));
  EXPECT_FALSE(state.finish(Status::ok()));
  EXPECT_TRUE(state.done());
  EXPECT_EQ(state.result().code(), Code::kPeerGone);
}

TEST(TransferState, of_many_finishing_threads_one_wins) {
  for (int round = 0; round < 50; ++round) {
    int settled = 0;
    TransferState state(Deadline::never(), [&](Status result) {
      ++settled;
      return result;
    });
    std::atomic<int> wins{0};
    std::atomic<int> called{0};
    state.before_done([&](const Status&) { ++called; });
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { wins += state.finish(kGone) ? 1 : 0; });
    EXPECT_TRUE(state.wait(std::nullopt));
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wins, 1);
    EXPECT_EQ(called, 1);
    EXPECT_EQ(settled, 1);
  }
}

TEST(TransferState, settles_the_result_before_anyone_sees_it) {
  TransferState* running = nullptr;
  TransferState state(Deadline::never(), [&](const Status& result) {
    EXPECT_FALSE(running->done());
    return result.with_context("object 7");
  });
  running = &state;
  state.finish(kGone);
  EXPECT_EQ(state.result().message(), "object 7: it left");
}

TEST(TransferState, tells_when_it_came_to_what) {
  using Milestone = TransferState::Milestone;
  TransferState whole(Deadline::never());
  for (const Milestone milestone : {Milestone::kLinked, Milestone::kMoving, Milestone::kMoved}) {
    std::this_thread::sleep_for(1ms);
    whole.reach(milestone);
  }
  std::this_thread::sleep_for(1ms);
  whole.finish(Status::ok());
  const TransferTimes times = whole.times();
  EXPECT_LT(times.begun, times.linked);
  EXPECT_LT(times.linked, times.moving);
  EXPECT_LT(times.moving, times.moved);
  EXPECT_LT(times.moved, times.ended);
}

TEST(TransferState, that_went_over_no_link_moved_all_the_time) {
  TransferState own(Deadline::never());
  std::this_thread::sleep_for(1ms);
  own.finish(Status::ok());
  EXPECT_EQ(own.times().moving, own.times().begun);
  EXPECT_EQ(own.times().moved, own.times().ended);
  EXPECT_LT(own.times().begun, own.times().ended);
}

TEST(TransferState, whose_bytes_came_too_late_moved_until_its_end) {
  TransferState late(Deadline::never());
  late.finish(kGone);
  std::this_thread::sleep_for(1ms);
  late.reach(TransferState::Milestone::kMoved);
  EXPECT_EQ(late.times().moved, late.times().ended);
}

TEST(TransferState, waits_for_as_long_as_it_is_told) {
  TransferState state(Deadline::never());
  EXPECT_FALSE(state.wait(0ns));
  EXPECT_FALSE(state.wait(-1s));
  EXPECT_FALSE(state.wait(5ms));
  std::thread finisher([&] {
    std::this_thread::sleep_for(5ms);
    state.finish(Status::ok());
  });
  EXPECT_TRUE(state.wait(std::chrono::nanoseconds::max()));
  finisher.join();
  EXPECT_TRUE(state.wait(0ns));
}

TEST(TransferState, stops_for_the_first_reason) {
  TransferState state(Deadline::never());
  EXPECT_FALSE(state.stopping());
  state.request_stop(kCancelled);
  state.request_stop(kGone);
  EXPECT_TRUE(state.stopping());
  EXPECT_FALSE(state.done()) << "stopping is a request";
  EXPECT_EQ(state.stop_reason().code(), Code::kCancelled);
}

TEST(TransferState, stops_at_its_deadline) {
  const TransferState state(Deadline::in(0ns));
  EXPECT_TRUE(state.stopping());
  EXPECT_EQ(state.stop_reason().code(), Code::kTransferTimeout);
}

TEST(TransferState, runs_the_stop_hook_once_whichever_comes_first) {
  int runs = 0;
  TransferState hook_first(Deadline::never());
  hook_first.set_stop_hook([&] { runs += 100; });  // replaced
  hook_first.set_stop_hook([&] { ++runs; });
  hook_first.request_stop(kCancelled);
  hook_first.request_stop(kCancelled);
  EXPECT_EQ(runs, 1);
  TransferState stop_first(Deadline::never());
  stop_first.request_stop(kCancelled);
  stop_first.set_stop_hook([&] { ++runs; });
  EXPECT_EQ(runs, 2);
}

TEST(TransferState, drops_the_stop_hook_when_it_ends) {
  const auto held = std::make_shared<int>(0);
  TransferState state(Deadline::never());
  state.set_stop_hook([held] { FAIL(); });
  state.finish(Status::ok());
  EXPECT_EQ(held.use_count(), 1);
  state.request_stop(kCancelled);
  state.set_stop_hook([held] { FAIL(); });
  EXPECT_EQ(held.use_count(), 1);
}

TEST(TransferState, calls_back_in_order_before_it_is_done_or_at_once) {
  std::vector<int> order;
  TransferState state(Deadline::never());
  state.before_done([&](const Status& result) {
    EXPECT_EQ(result.code(), kGone.code());
    EXPECT_FALSE(state.done());
    order.push_back(1);
    state.before_done([&](const Status&) { order.push_back(2); });
  });
  state.before_done([&](const Status&) { order.push_back(3); });
  state.finish(kGone);
  state.before_done([&](const Status& result) {
    EXPECT_EQ(result.code(), kGone.code());
    order.push_back(4);
  });
  EXPECT_THAT(order, ElementsAre(1, 2, 3, 4));
}

TEST(TransferState, counts_bytes_by_transport) {
  TransferState state(Deadline::never());
  EXPECT_TRUE(state.bytes_by_transport().empty());
  state.add_bytes(control::TransportKind::kCma, 5);
  state.add_bytes(control::TransportKind::kShm, 7);
  state.add_bytes(control::TransportKind::kCma, 1);
  std::map<std::string, std::uint64_t> rows;
  for (const TransportBytes& row : state.bytes_by_transport()) rows[row.transport] = row.bytes;
  EXPECT_EQ(rows, (std::map<std::string, std::uint64_t>{{"cma", 6}, {"shm", 7}}));
}

}  // namespace
}  // namespace ray_hixl::transport
