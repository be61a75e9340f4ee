// The thread that submits to HIXL and polls it. HIXL answers as the test says.
#include "transport/hixl/driver/driver.h"

#include <sys/syscall.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "support/engines.h"
#include "support/event.h"
#include "support/eventually.h"
#include "support/forbidden_calls.h"
#include "support/refused_calls.h"
#include "support/scripted_hixl.h"
#include "support/tasks.h"
#include "support/threads_end.h"
#include "support/yardstick.h"

namespace ray_hixl::test {
namespace {

using namespace transport::hixl;
using testing::ElementsAre;
using testing::SizeIs;
using transport::TransferState;

constexpr int kDevice = 7;
constexpr const char* kThread = "hixl-npu-7";

// A move, and whether it has ended.
struct WatchedTransfer {
  std::shared_ptr<TransferState> transfer = std::make_shared<TransferState>(Deadline::never());
  std::shared_ptr<std::atomic<int>> ends = std::make_shared<std::atomic<int>>(0);
  std::shared_ptr<Status> result = std::make_shared<Status>(Code::kInternal, "it has not ended");

  [[nodiscard]] bool ended() const { return ends->load() > 0; }
  [[nodiscard]] Status wait() const {
    EXPECT_TRUE(eventually([this] { return ended(); }));
    EXPECT_EQ(ends->load(), 1);
    return ended() ? *result : Status(Code::kInternal, "it has not ended");
  }
};

class DriverTest : public testing::Test {
 protected:
  explicit DriverTest(bool batches = true, std::size_t most_requests = 16, std::size_t most_links = 64,
                      std::chrono::nanoseconds idle_time = 1h)
      : script(batches), most(most_requests), links(most_links), idle(idle_time) {
    EXPECT_THAT(driver->start(), IsOk());
    const Result<bool> ready = driver->call<bool>([this]() -> Result<bool> {
      driver->use(script.make_hixl());
      return true;
    });
    EXPECT_TRUE(ready.is_ok());
  }
  ~DriverTest() override {
    if (stopped) return;
    EXPECT_TRUE(stop());
  }
  bool stop(Deadline deadline = Deadline::in(10s)) {
    stopped = true;
    return driver->stop(deadline, [this] { driver->use(nullptr); });
  }
  WatchedTransfer submit(const std::string& peer, const void* channel = nullptr, std::uint64_t remote_epoch = 1) {
    WatchedTransfer made;
    auto move = std::make_shared<Move>();
    move->ops = {{4096, 8192, 1}};
    move->remote_epoch = remote_epoch;
    move->transfer = made.transfer;
    move->channel = channel;
    move->done = [made](const Status& status) {
      *made.result = status;
      ++*made.ends;
    };
    driver->submit(peer, std::move(move));
    return made;
  }
  // One that HIXL has, and the number of its request.
  std::pair<WatchedTransfer, std::uint64_t> submit_and_wait(const std::string& peer) {
    const std::size_t before = script.requests().size();
    const WatchedTransfer made = submit(peer);
    EXPECT_TRUE(eventually([&] { return script.requests().size() > before; }));
    return {made, script.requests().back().id};
  }
  Result<std::unique_ptr<Hixl>> renew(std::unique_ptr<Hixl> old) {
    if (old) old->finalize();
    auto fresh = script.make_hixl();
    const Outcome outcome = fresh->initialize("a:0", {});
    if (!outcome.is_ok()) return Status(Code::kNotAvailable, outcome.text());
    return fresh;
  }
  // One that does not end though it is to.
  WatchedTransfer submit_stuck(const std::string& peer) {
    WatchedTransfer stuck = submit_and_wait(peer).first;
    stuck.transfer->request_stop(Status(Code::kCancelled, "the test does not want it any more"));
    driver->heed_stops();
    return stuck;
  }
  // What HIXL has ends well as it comes, until the move has ended.
  Status complete_until_ended(const WatchedTransfer& move) {
    EXPECT_TRUE(eventually([&] {
      script.complete();
      return move.ended();
    }));
    return move.wait();
  }
  std::uint64_t polls() { return script.count("poll") + script.count("poll_all"); }

  ScriptedHixl script;
  std::atomic<std::uint64_t> epoch{1};
  std::atomic<int> prepared{0};
  std::atomic<int> down{0};  // links that went down, where a test asks for it
  std::chrono::milliseconds stall = 50ms;
  const std::size_t most;  // requests
  const std::size_t links;
  const std::chrono::nanoseconds idle;
  std::unique_ptr<Driver> driver = std::make_unique<Driver>(
      Driver::Setup{kDevice, [this] { ++prepared; }, 1s, stall, [this] { return epoch.load(); },
                    [this](std::unique_ptr<Hixl> old) { return renew(std::move(old)); }, nullptr, nullptr, most, links, idle});
  bool stopped = false;
};

class DriverOfTwoSlots : public DriverTest {
 protected:
  DriverOfTwoSlots() : DriverTest(true, 2) {}
};

class DriverWithoutBatches : public DriverTest {
 protected:
  DriverWithoutBatches() : DriverTest(false) {}
};

TEST_F(DriverTest, is_not_held_up_by_errands_nor_holds_them_up) {
  Event reached;
  Event go_on;
  driver->post([&] {
    reached.set();
    EXPECT_TRUE(go_on.wait());
  });
  ASSERT_TRUE(reached.wait());
  const auto where = driver->call_errand<std::thread::id>([]() -> Result<std::thread::id> { return std::this_thread::get_id(); });
  go_on.set();
  ASSERT_THAT(where.status(), IsOk());
  EXPECT_NE(*where, std::this_thread::get_id());
  EXPECT_TRUE(stop());
  EXPECT_EQ(driver->call_errand<bool>([]() -> Result<bool> { return true; }).status().code(), Code::kClosed);
}

TEST_F(DriverTest, brings_a_move_to_its_end) {
  const auto [move, request] = submit_and_wait("a:1");
  script.end(request, kCompleted);
  EXPECT_THAT(move.wait(), IsOk());
  EXPECT_THAT(script.calls(), ElementsAre("connect a:1", "read a:1 1"));
  EXPECT_EQ(prepared, 2) << "its own thread, and one that connects";
}

TEST_F(DriverTest, asks_for_all_requests_at_once) {
  const auto [first, first_request] = submit_and_wait("a:1");
  const auto [second, second_request] = submit_and_wait("b:1");
  script.end(first_request, kCompleted);
  script.end(second_request, kCompleted);
  EXPECT_THAT(first.wait(), IsOk());
  EXPECT_THAT(second.wait(), IsOk());
  EXPECT_EQ(script.count("poll"), 0u);
}

TEST_F(DriverTest, asks_one_by_one_where_the_common_poll_fails) {
  script.answer("poll_all", std::vector<HixlCode>(1000, kUnsupported));
  const auto [move, request] = submit_and_wait("a:1");
  script.end(request, kCompleted);
  EXPECT_THAT(move.wait(), IsOk());
  EXPECT_GT(script.count("poll"), 0u);
}

TEST_F(DriverWithoutBatches, asks_one_by_one) {
  const auto [first, first_request] = submit_and_wait("a:1");
  const auto [second, second_request] = submit_and_wait("b:1");
  script.end(second_request, kCompleted);
  EXPECT_THAT(second.wait(), IsOk());
  EXPECT_FALSE(first.ended());
  script.end(first_request, kCompleted);
  EXPECT_THAT(first.wait(), IsOk());
}

// (0, FAILED) and (error, FAILED), told by either poll.
TEST_F(DriverTest, tries_again_what_failed) {
  const auto [move, request] = submit_and_wait("a:1");
  script.end(request, kTransferFailed);
  ASSERT_TRUE(eventually([&] { return script.count("read") == 2; }));
  script.end(script.requests().back().id, kCompleted);
  EXPECT_THAT(move.wait(), IsOk());
  EXPECT_THAT(script.calls(), ElementsAre("connect a:1", "read a:1 1", "disconnect a:1", "connect a:1", "read a:1 1"));
}

TEST_F(DriverWithoutBatches, tries_again_what_failed) {
  const auto [move, request] = submit_and_wait("a:1");
  script.end(request, kTransferFailed);
  ASSERT_TRUE(eventually([&] { return script.count("read") == 2; }));
  script.end(script.requests().back().id, kTransferFailed, 507046);
  ASSERT_TRUE(eventually([&] { return script.count("read") == 3; }));
  script.end(script.requests().back().id, kCompleted);
  EXPECT_THAT(move.wait(), IsOk());
}

TEST_F(DriverWithoutBatches, says_what_a_request_failed_with) {
  const auto [move, first] = submit_and_wait("a:1");
  for (std::uint64_t reads = 1; reads <= 3; ++reads) {
    ASSERT_TRUE(eventually([&] { return script.count("read") == reads; }));
    script.end(script.requests().back().id, kTransferFailed, 507046);
  }
  const Status result = move.wait();
  EXPECT_THAT(result, FailsWith(Code::kPeerGone));
  EXPECT_THAT(result.message(), testing::HasSubstr("error 507046: the script says so"));
}

TEST_F(DriverTest, is_not_delayed_by_a_connect_that_hangs) {
  script.hold("connect dead:1");
  const WatchedTransfer dead = submit("dead:1");
  const auto [live, request] = submit_and_wait("a:1");
  script.end(request, kCompleted);
  EXPECT_THAT(live.wait(), IsOk()) << "a new peer";
  const WatchedTransfer refreshed = submit("a:1", nullptr, 2);
  ASSERT_TRUE(eventually([&] { return script.count("read") == 2; })) << "a link that is made anew";
  script.end(script.requests().back().id, kCompleted);
  EXPECT_THAT(refreshed.wait(), IsOk());
  const Result<int> answer = driver->call<int>([]() -> Result<int> { return 5; });
  EXPECT_TRUE(answer.is_ok()) << "what registers memory";
  EXPECT_FALSE(dead.ended());
  script.let_go("connect dead:1");
}

TEST_F(DriverTest, is_not_delayed_by_many_peers_that_are_dead) {
  script.hold("connect");
  std::vector<WatchedTransfer> dead;
  for (int i = 0; i < 12; ++i) {
    dead.push_back(submit("dead:" + std::to_string(i)));
    script.hold("connect dead:" + std::to_string(i));
  }
  ASSERT_TRUE(eventually([&] { return script.count("connect") == dead.size(); }));
  script.let_go("connect");
  const auto [live, request] = submit_and_wait("a:1");
  script.end(request, kCompleted);
  EXPECT_THAT(live.wait(), IsOk());
  for (std::size_t i = 0; i < dead.size(); ++i) {
    EXPECT_FALSE(dead[i].ended());
    script.let_go("connect dead:" + std::to_string(i));
  }
  for (const WatchedTransfer& move : dead) EXPECT_THAT(complete_until_ended(move), IsOk());
}

TEST_F(DriverTest, replaces_the_engine_where_hixl_does_not_take_a_link_down) {
  const auto [first, request] = submit_and_wait("a:1");
  script.end(request, kCompleted);
  EXPECT_THAT(first.wait(), IsOk());
  script.answer("disconnect", {kFailed});
  EXPECT_THAT(complete_until_ended(submit("a:1", nullptr, 2)), IsOk());
  EXPECT_THAT(script.calls(),
              ElementsAre("connect a:1", "read a:1 1", "disconnect a:1", "finalize", "initialize", "connect a:1", "read a:1 1"));
  EXPECT_EQ(driver->counters().renewals, 1u);
  EXPECT_EQ(driver->counters().disconnects_failed, 1u);
}

TEST_F(DriverTest, sleeps_while_nothing_is_in_flight) {
  const auto [move, request] = submit_and_wait("a:1");
  script.end(request, kCompleted);
  EXPECT_THAT(move.wait(), IsOk());
  std::uint64_t asleep = 0;
  const auto stays_asleep = [&] {
    const std::uint64_t before = sleeps_of(kThread);
    std::this_thread::sleep_for(100ms);  // the time that is looked at
    asleep = sleeps_of(kThread) - before;
    return asleep == 0;
  };
  EXPECT_TRUE(eventually(stays_asleep)) << asleep << " times in 100 ms";
  EXPECT_THAT(threads_named(kThread), SizeIs(1));
}

TEST_F(DriverTest, sleeps_while_a_link_is_taken_down) {
  script.hold("disconnect a:1");
  const auto [first, request] = submit_and_wait("a:1");
  const auto [second, other] = submit_and_wait("a:1");
  script.end(request, kTransferFailed);
  script.end(other, kTransferFailed);
  ASSERT_TRUE(eventually([&] { return script.count("disconnect") == 1; }));
  std::uint64_t awake = 0;
  const auto stays_asleep = [&] {
    const std::uint64_t before = sleeps_of(kThread);
    std::this_thread::sleep_for(100ms);  // the time that is looked at
    awake = sleeps_of(kThread) - before;
    return awake == 0;
  };
  EXPECT_TRUE(eventually(stays_asleep)) << awake << " times in 100 ms";
  script.let_go("disconnect a:1");
  ASSERT_TRUE(eventually([&] { return script.requests().size() == 2; }));
  script.complete();
}

// Every 200 us, after a spin of 30 us; and it sleeps in between.
TEST_F(DriverTest, polls_often_while_something_is_in_flight_and_does_not_spin) {
  const auto [move, request] = submit_and_wait("a:1");
  std::uint64_t polled = 0;
  std::uint64_t slept = 0;
  const auto looks = [&] {
    const std::uint64_t polls_before = polls();
    const std::uint64_t sleeps_before = sleeps_of(kThread);
    const auto start = std::chrono::steady_clock::now();
    std::this_thread::sleep_for(100ms);  // the time that is looked at
    const auto took = static_cast<std::uint64_t>((std::chrono::steady_clock::now() - start) / 1ms);
    polled = (polls() - polls_before) * 100 / took;
    slept = (sleeps_of(kThread) - sleeps_before) * 100 / took;
    return polled >= 200 && 2 * slept >= polled;
  };
  EXPECT_TRUE(eventually(looks)) << polled << " polls and " << slept << " sleeps in 100 ms";
  script.end(request, kCompleted);
  EXPECT_THAT(move.wait(), IsOk());
}

TEST_F(DriverTest, forgets_a_link_that_went_down_and_says_so) {
  ASSERT_TRUE(driver->post([this] { driver->set_link_down([this] { ++down; }); }));
  const int channel = 0;
  const WatchedTransfer move = submit("a:1", &channel);
  ASSERT_TRUE(eventually([&] { return script.requests().size() == 1; }));
  script.end(script.requests().back().id, kCompleted);
  EXPECT_THAT(move.wait(), IsOk());
  const auto has_links = [&] { return *driver->call<bool>([&]() -> Result<bool> { return driver->has_links(); }); };
  EXPECT_TRUE(has_links());
  EXPECT_EQ(down, 0);
  driver->abandon(&channel, Status(Code::kPeerGone, "gone"));
  EXPECT_TRUE(eventually([&] { return down == 1; }));
  EXPECT_FALSE(has_links());
}

TEST_F(DriverTest, shares_sixteen_requests_among_the_links_that_want_some) {
  std::vector<WatchedTransfer> moves;
  moves.push_back(submit("b:1"));
  EXPECT_THAT(complete_until_ended(moves.back()), IsOk());  // b is connected, and wants nothing
  for (int i = 0; i < 30; ++i) moves.push_back(submit("a:1"));
  ASSERT_TRUE(eventually([&] { return script.requests().size() == 16; }));
  for (int i = 0; i < 30; ++i) moves.push_back(submit("b:1"));
  const std::uint64_t before = polls();
  ASSERT_TRUE(eventually([&] { return polls() > before + 1; }));  // the driver has taken them all
  const auto of_b = [&] { return std::ranges::count(script.requests(), std::string("b:1"), &ScriptedHixl::Request::peer); };
  script.complete(8);
  EXPECT_TRUE(eventually([&] { return of_b() == 8 && script.requests().size() == 16; }));
  for (const WatchedTransfer& move : moves) EXPECT_THAT(complete_until_ended(move), IsOk());
}

TEST_F(DriverOfTwoSlots, has_no_more_requests_than_slots) {
  std::vector<WatchedTransfer> moves;
  for (int i = 0; i < 5; ++i) moves.push_back(submit(i % 2 == 0 ? "a:1" : "b:1"));
  ASSERT_TRUE(eventually([&] { return script.requests().size() == 2 && script.count("connect") == 2; }));
  for (const WatchedTransfer& move : moves) {
    EXPECT_LE(script.requests().size(), 2u);
    EXPECT_THAT(complete_until_ended(move), IsOk());
  }
}

// Links that want something all the time do not keep it from one that came later.
TEST_F(DriverOfTwoSlots, gives_slots_to_links_in_the_order_in_which_they_wait) {
  std::vector<WatchedTransfer> moves;
  for (const char* peer : {"a:1", "b:1", "c:1"}) EXPECT_THAT(complete_until_ended(submit(peer)), IsOk());
  for (int i = 0; i < 20; ++i) moves.push_back(submit(i % 2 == 0 ? "a:1" : "b:1"));
  const WatchedTransfer late = submit("c:1");
  const auto is_waiting = [&] { return !late.transfer->waiting().is_ok(); };
  ASSERT_TRUE(eventually(is_waiting));
  EXPECT_THAT(late.transfer->waiting().message(), testing::HasSubstr("all 2 slots of HIXL on npu:7"));
  for (int ended = 0; ended < 4; ++ended) {
    const std::uint64_t reads = script.count("read");
    script.complete(1);
    ASSERT_TRUE(eventually([&] { return script.count("read") > reads; }));
  }
  EXPECT_THAT(script.calls(), testing::Contains("read c:1 1").Times(2));
  EXPECT_FALSE(moves.back().ended());
  EXPECT_THAT(complete_until_ended(late), IsOk());
  for (const WatchedTransfer& move : moves) EXPECT_THAT(complete_until_ended(move), IsOk());
}

class DriverOfShortIdleness : public DriverTest {
 protected:
  DriverOfShortIdleness() : DriverTest(true, 16, 64, 50ms) {}
};

TEST_F(DriverOfShortIdleness, takes_an_unused_link_down_and_makes_it_again_for_the_next_move) {
  ASSERT_TRUE(driver->post([this] { driver->set_link_down([this] { ++down; }); }));
  EXPECT_THAT(complete_until_ended(submit("a:1")), IsOk());
  EXPECT_TRUE(eventually([&] { return down == 1; }));
  EXPECT_EQ(driver->counters().links_yielded, 1u);
  EXPECT_THAT(complete_until_ended(submit("a:1")), IsOk());
  const auto calls = script.calls();
  ASSERT_GE(calls.size(), 5u);
  EXPECT_THAT(std::vector(calls.begin(), calls.begin() + 5),
              ElementsAre("connect a:1", "read a:1 1", "disconnect a:1", "connect a:1", "read a:1 1"));
  EXPECT_EQ(driver->counters().links_broken, 0u);
  EXPECT_EQ(script.count("finalize"), 0u);
}

TEST_F(DriverOfShortIdleness, keeps_a_link_with_a_request_in_flight) {
  const auto [move, request] = submit_and_wait("a:1");
  std::this_thread::sleep_for(3 * idle);  // the time that it would have
  EXPECT_EQ(script.count("disconnect"), 0u);
  script.end(request, kCompleted);
  EXPECT_THAT(move.wait(), IsOk());
}

class DriverOfTwoLinks : public DriverTest {
 protected:
  DriverOfTwoLinks() : DriverTest(true, 16, 2) {}
  // It is known to wait for its turn.
  WatchedTransfer submit_to_wait(const std::string& peer) {
    const WatchedTransfer made = submit(peer);
    EXPECT_TRUE(eventually([&] { return !made.transfer->waiting().is_ok(); }));
    return made;
  }
};

TEST_F(DriverOfTwoLinks, takes_down_what_nobody_used_for_longest_for_another_peer) {
  for (const char* peer : {"b:1", "a:1", "b:1"}) EXPECT_THAT(complete_until_ended(submit(peer)), IsOk());
  (void)script.take_calls();
  EXPECT_THAT(complete_until_ended(submit("c:1")), IsOk());
  EXPECT_THAT(script.take_calls(), ElementsAre("disconnect a:1", "connect c:1", "read c:1 1"));
  EXPECT_THAT(complete_until_ended(submit("a:1")), IsOk());
  EXPECT_THAT(script.take_calls(), ElementsAre("disconnect b:1", "connect a:1", "read a:1 1"));
  EXPECT_EQ(driver->counters().links_yielded, 2u);
}

TEST_F(DriverOfTwoLinks, gives_turns_in_the_order_in_which_peers_came) {
  const auto [first, first_request] = submit_and_wait("a:1");
  const auto [second, second_request] = submit_and_wait("b:1");
  const WatchedTransfer third = submit_to_wait("z:1");
  const WatchedTransfer fourth = submit_to_wait("y:1");
  EXPECT_EQ(script.count("connect"), 2u);
  (void)script.take_calls();
  script.end(second_request, kCompleted);
  EXPECT_THAT(second.wait(), IsOk());
  const auto reads = [&](std::uint64_t count) { return eventually([&] { return script.count("read") == count; }); };
  ASSERT_TRUE(reads(3));
  EXPECT_THAT(script.take_calls(), ElementsAre("disconnect b:1", "connect z:1", "read z:1 1"));
  script.end(script.requests().back().id, kCompleted);
  EXPECT_THAT(third.wait(), IsOk());
  ASSERT_TRUE(reads(4));
  EXPECT_THAT(script.take_calls(), ElementsAre("disconnect z:1", "connect y:1", "read y:1 1"));
  EXPECT_FALSE(first.ended());
  script.complete();
  EXPECT_THAT(fourth.wait(), IsOk());
  EXPECT_THAT(first.wait(), IsOk());
}

TEST_F(DriverOfTwoLinks, gives_a_turn_although_others_are_never_idle) {
  std::vector<WatchedTransfer> busy;
  for (int i = 0; i < 40; ++i) busy.push_back(submit(i % 2 == 0 ? "a:1" : "b:1"));
  ASSERT_TRUE(eventually([&] { return script.requests().size() == 16; }));
  const WatchedTransfer late = submit_to_wait("c:1");
  ASSERT_TRUE(eventually([&] {
    script.complete(1);
    for (int peer = 0; peer < 2; ++peer) busy.push_back(submit(peer == 0 ? "a:1" : "b:1"));
    return late.ended();
  }));
  EXPECT_THAT(late.wait(), IsOk());
  EXPECT_FALSE(busy.back().ended()) << "they want more";
  for (const WatchedTransfer& move : busy) EXPECT_THAT(complete_until_ended(move), IsOk()) << "and get their turn again";
  EXPECT_EQ(script.count("finalize"), 0u) << "no link goes down with requests in flight";
}

TEST_F(DriverOfTwoLinks, waits_for_no_link_that_is_to_go_down_once_another_is_unused) {
  const auto [slow, slow_request] = submit_and_wait("a:1");
  const auto [other, other_request] = submit_and_wait("b:1");
  const WatchedTransfer late = submit_to_wait("c:1");
  const auto [also_slow, also_slow_request] = submit_and_wait("a:1");  // after c came: so a is the one that is to go down
  std::this_thread::sleep_for(150ms);                                  // its turn
  const WatchedTransfer next = submit("a:1");
  const std::uint64_t before = polls();
  ASSERT_TRUE(eventually([&] { return polls() > before + 1; }));
  EXPECT_THAT(script.requests(), SizeIs(3)) << "it takes nothing new";
  script.end(other_request, kCompleted);
  ASSERT_TRUE(eventually([&] { return script.count("read") == 4; }));
  EXPECT_EQ(script.calls().back(), "read c:1 1");
  EXPECT_FALSE(slow.ended() || also_slow.ended());
  for (const WatchedTransfer& move : {slow, also_slow, other, late, next}) EXPECT_THAT(complete_until_ended(move), IsOk());
}

TEST_F(DriverOfTwoLinks, says_what_a_move_waited_for_when_its_time_was_over) {
  const auto [first, first_request] = submit_and_wait("a:1");
  const auto [second, second_request] = submit_and_wait("b:1");
  const WatchedTransfer late = submit_to_wait("c:1");
  EXPECT_THAT(late.transfer->waiting().message(), testing::HasSubstr("all 2 links of npu:7 were in use (hixl_max_links)"));
  late.transfer->request_stop(late.transfer->waiting());
  driver->heed_stops();
  EXPECT_THAT(late.wait(), FailsWith(Code::kTransferTimeout));
  script.complete();
  EXPECT_THAT(first.wait(), IsOk());
  EXPECT_THAT(second.wait(), IsOk());
  EXPECT_EQ(script.count("connect"), 2u);
  EXPECT_EQ(script.count("disconnect"), 0u) << "for nobody";
}

// Not only three times: it is not the peer that is at fault.
TEST_F(DriverTest, makes_room_where_hixl_takes_no_other_link) {
  EXPECT_THAT(complete_until_ended(submit("a:1")), IsOk());
  const auto [busy, request] = submit_and_wait("b:1");
  (void)script.take_calls();
  script.answer("connect", std::vector<HixlCode>(4, kResourceExhausted));
  const WatchedTransfer move = submit("c:1");
  ASSERT_TRUE(eventually([&] { return script.requests().size() == 2; }));
  EXPECT_THAT(script.calls(),
              ElementsAre("connect c:1", "disconnect a:1", "connect c:1", "connect c:1", "connect c:1", "connect c:1", "read c:1 1"));
  script.complete();
  EXPECT_THAT(move.wait(), IsOk());
  EXPECT_THAT(busy.wait(), IsOk());
}

// A disconnect with requests in flight would leave records of them to others.
TEST_F(DriverTest, replaces_the_engine_when_a_link_goes_down_with_requests_in_flight) {
  const auto [live, live_request] = submit_and_wait("b:1");
  const WatchedTransfer stuck = submit_stuck("a:1");
  (void)script.take_calls();
  std::this_thread::sleep_for(stall + 10ms);  // a is given up
  const WatchedTransfer later = submit("b:1");
  script.end(live_request, kCompleted);
  EXPECT_THAT(live.wait(), IsOk());
  EXPECT_THAT(stuck.wait(), FailsWith(Code::kCancelled));
  EXPECT_THAT(complete_until_ended(later), IsOk());
  const auto calls = script.take_calls();
  ASSERT_THAT(calls, SizeIs(6));
  EXPECT_THAT(std::vector(calls.begin(), calls.begin() + 2), testing::UnorderedElementsAre("disconnect a:1", "disconnect b:1"));
  EXPECT_THAT(std::vector(calls.begin() + 2, calls.end()), ElementsAre("finalize", "initialize", "connect b:1", "read b:1 1"));
  EXPECT_EQ(driver->counters().renewals, 1u);
}

TEST_F(DriverTest, ends_no_move_before_the_engine_that_may_write_for_it_is_gone) {
  script.hold("finalize");
  const WatchedTransfer stuck = submit_stuck("a:1");
  ASSERT_TRUE(eventually([&] { return script.count("finalize") == 1; }));
  EXPECT_FALSE(stuck.ended());
  const WatchedTransfer waiting = submit("b:1");
  waiting.transfer->request_stop(Status(Code::kCancelled, "no more"));
  driver->heed_stops();
  EXPECT_THAT(waiting.wait(), FailsWith(Code::kCancelled)) << "HIXL has none of it";
  script.let_go("finalize");
  EXPECT_THAT(stuck.wait(), FailsWith(Code::kCancelled));
}

TEST_F(DriverTest, gives_up_what_else_is_in_flight_after_the_same_time) {
  const auto [also_stuck, request] = submit_and_wait("b:1");
  const WatchedTransfer stuck = submit_stuck("a:1");
  EXPECT_THAT(stuck.wait(), FailsWith(Code::kCancelled));
  EXPECT_FALSE(also_stuck.ended());
  EXPECT_THAT(complete_until_ended(also_stuck), IsOk()) << "it is read again";
  EXPECT_EQ(driver->counters().renewals, 1u);
}

TEST_F(DriverTest, keeps_the_engine_where_everything_has_ended_after_all) {
  const auto [live, live_request] = submit_and_wait("b:1");
  const auto [slow, slow_request] = submit_and_wait("a:1");
  slow.transfer->request_stop(Status(Code::kCancelled, "no more"));
  driver->heed_stops();
  std::this_thread::sleep_for(stall + 10ms);  // a is given up, and b is waited for
  script.end(slow_request, kCompleted);
  script.end(live_request, kCompleted);
  EXPECT_THAT(slow.wait(), IsOk());
  EXPECT_THAT(live.wait(), IsOk());
  EXPECT_THAT(complete_until_ended(submit("b:1")), IsOk());
  EXPECT_EQ(script.count("finalize"), 0u);
}

TEST_F(DriverTest, makes_room_only_where_what_is_in_flight_ends_in_time) {
  ASSERT_TRUE(driver->post([this] { driver->set_link_down([this] { ++down; }); }));
  const auto [slow, request] = submit_and_wait("a:1");
  ASSERT_TRUE(driver->post([this] { driver->ask_for_room(); }));
  const WatchedTransfer later = submit("b:1");
  EXPECT_TRUE(eventually([&] { return script.requests().size() == 2; })) << "others go on after that time";
  EXPECT_FALSE(slow.ended());
  script.complete();
  EXPECT_THAT(slow.wait(), IsOk());
  EXPECT_THAT(later.wait(), IsOk());
  EXPECT_EQ(script.count("read"), 2u) << "nothing is read again";
  EXPECT_EQ(script.count("finalize"), 0u);
  ASSERT_TRUE(eventually([&] { return script.count("disconnect") >= 1; }));
  ASSERT_TRUE(driver->post([this] { driver->ask_for_room(); }));
  EXPECT_TRUE(eventually([&] { return down >= 1; })) << "now all links go down for a moment";
}

TEST_F(DriverTest, has_what_needs_an_engine_wait_for_the_next_one) {
  script.hold("initialize");
  const WatchedTransfer stuck = submit_stuck("a:1");
  ASSERT_TRUE(eventually([&] { return script.count("initialize") == 1; }));
  EXPECT_THAT(driver->call<int>([]() -> Result<int> { return 1; }).status(), IsOk()) << "others do not";
  std::atomic<bool> registered = false;
  std::thread caller([&] {
    const Result<bool> done = driver->call_hixl<bool>([&](Hixl* hixl) -> Result<bool> {
      void* handle = nullptr;
      return hixl->register_device_memory(4096, 1, handle).is_ok();
    });
    registered = done.is_ok() && *done;
  });
  EXPECT_FALSE(registered);
  script.let_go("initialize");
  caller.join();
  EXPECT_TRUE(registered);
}

TEST_F(DriverTest, says_why_no_engine_can_be_had_and_tries_again_when_it_is_wanted) {
  script.answer("initialize", {kFailed, kFailed, kFailed});
  const WatchedTransfer stuck = submit_stuck("a:1");
  const WatchedTransfer waiting = submit("b:1");
  EXPECT_THAT(stuck.wait(), FailsWith(Code::kCancelled));
  const Status why = waiting.wait();
  EXPECT_THAT(why, FailsWith(Code::kNotAvailable));
  EXPECT_THAT(why.message(), testing::HasSubstr("FAILED (503900)"));
  EXPECT_EQ(script.count("initialize"), 3u);
  EXPECT_THAT(complete_until_ended(submit("b:1")), IsOk());
  EXPECT_EQ(script.count("initialize"), 4u);
  const WatchedTransfer again = submit_stuck("b:1");
  EXPECT_THAT(again.wait(), FailsWith(Code::kCancelled));
  EXPECT_THAT(complete_until_ended(submit("b:1")), IsOk());
  EXPECT_EQ(driver->counters().renewals, 2u);
}

TEST_F(DriverTest, stops_while_the_engine_is_being_replaced) {
  script.hold("initialize");
  const WatchedTransfer stuck = submit_stuck("a:1");
  ASSERT_TRUE(eventually([&] { return script.count("initialize") == 1; }));
  const WatchedTransfer waiting = submit("b:1");
  std::thread stopper([&] { EXPECT_TRUE(stop()); });
  EXPECT_THAT(waiting.wait(), FailsWith(Code::kClosed));
  script.let_go("initialize");
  stopper.join();
  EXPECT_TRUE(stuck.ended());
}

TEST_F(DriverTest, ends_everything_at_its_stop_and_takes_nothing_afterwards) {
  const auto [in_flight, request] = submit_and_wait("a:1");
  const WatchedTransfer waiting = submit("a:1", nullptr, 2);
  const auto driver_thread = driver->call<bool>([this]() -> Result<bool> { return driver->on_thread(); });
  EXPECT_TRUE(*driver_thread);
  bool last_on_thread = false;
  std::vector<std::string> calls;
  stopped = true;
  ASSERT_TRUE(driver->stop(Deadline::in(10s), [&] {
    last_on_thread = driver->on_thread();
    calls = script.calls();
    driver->use(nullptr);
  }));
  EXPECT_TRUE(last_on_thread);
  EXPECT_EQ(calls.back(), "disconnect a:1") << "the links are down before the last task";
  EXPECT_THAT(in_flight.wait(), FailsWith(Code::kClosed));
  EXPECT_THAT(waiting.wait(), FailsWith(Code::kClosed));
  EXPECT_THAT(submit("a:1").wait(), FailsWith(Code::kClosed));
  EXPECT_FALSE(driver->post([] {}));
  EXPECT_THAT(driver->call<int>([]() -> Result<int> { return 1; }).status(), FailsWith(Code::kClosed));
  EXPECT_TRUE(eventually([] { return threads_named("hixl-conn-7").empty(); }));
}

TEST_F(DriverTest, stops_once_a_connect_under_way_has_come_back) {
  script.hold("connect");
  const WatchedTransfer move = submit("a:1");
  ASSERT_TRUE(eventually([&] { return script.count("connect") == 1; }));
  std::thread stopper([&] { EXPECT_TRUE(stop()); });
  EXPECT_THAT(move.wait(), FailsWith(Code::kClosed)) << "HIXL has none of it";
  script.let_go("connect");
  stopper.join();
  EXPECT_THAT(script.calls(), ElementsAre("connect a:1", "disconnect a:1"));
}

// Whatever comes while it stops is done or refused: nothing is taken and then left without an answer.
TEST_F(DriverTest, answers_everybody_who_asks_while_it_stops) {
  for (int round = 0; round < 20; ++round) {
    Driver stopping({kDevice + 2, [] {}, 1s, 1s, [] { return std::uint64_t{1}; }, nullptr, nullptr, nullptr});
    ASSERT_THAT(stopping.start(), IsOk());
    std::atomic<bool> refused = false;
    std::thread caller([&] {
      while (!refused) {
        const Result<int> answer = stopping.call<int>([]() -> Result<int> { return 1; });
        if (answer.is_ok()) continue;
        EXPECT_THAT(answer.status(), FailsWith(Code::kClosed));
        refused = true;
      }
    });
    bool taken = false;
    bool done = false;
    EXPECT_TRUE(stopping.stop(Deadline::in(10s), [&] { taken = stopping.post([&] { done = true; }); }));
    EXPECT_EQ(taken, done);
    caller.join();
  }
}

// The driver's thread gets no other one from here on.
void refuse_threads(Driver& driver) {
  const Result<bool> refused =
      driver.call<bool>([]() -> Result<bool> { return refuse_call(SYS_clone3, EAGAIN) && refuse_call(SYS_clone, EAGAIN); });
  ASSERT_TRUE(refused.is_ok() && *refused);
}

TEST_F(DriverTest, ends_a_move_where_no_thread_to_connect_can_be_had) {
  refuse_threads(*driver);
  const Status status = submit("a:1").wait();
  EXPECT_THAT(status, FailsWith(Code::kConnectError));
  EXPECT_THAT(status.message(), testing::HasSubstr("no thread can be had"));
  EXPECT_EQ(script.count("connect"), 0u);
}

TEST_F(DriverTest, takes_a_link_down_where_no_thread_more_can_be_had) {
  const auto [move, request] = submit_and_wait("a:1");
  refuse_threads(*driver);
  script.hold("connect");
  const WatchedTransfer other = submit("b:1");  // all threads there are
  ASSERT_TRUE(eventually([&] { return script.count("connect") == 2; }));
  script.end(request, kTransferFailed);
  script.let_go("connect");
  ASSERT_TRUE(eventually([&] { return script.count("read") == 3; }));
  EXPECT_EQ(script.count("disconnect"), 1u);
  script.complete();
  EXPECT_THAT(move.wait(), IsOk());
  EXPECT_THAT(other.wait(), IsOk());
}

TEST(DriverWithoutThreads, says_so_when_it_starts) {
  without_threads([] {
    Driver driver({kDevice, [] {}, 1s, 1s, [] { return 1; }, nullptr, nullptr, nullptr});
    EXPECT_THAT(driver.start(), FailsWith(Code::kOutOfMemory));
  });
}

class DriverThatHangs : public testing::Test {};

// Its threads, and what HIXL may write to, are left as they are.
TEST_F(DriverThatHangs, gives_up_at_the_deadline) {
  expect_to_stay("hixl-npu-" + std::to_string(kDevice + 1));
  static ScriptedHixl& script = *new ScriptedHixl;
  static auto* const driver =
      new Driver({kDevice + 1, [] {}, 1s, 1s, [] { return 1; }, nullptr, nullptr, nullptr});  // for ever, as the move
  ASSERT_THAT(driver->start(), IsOk());
  ASSERT_TRUE(driver
                  ->call<bool>([]() -> Result<bool> {
                    driver->use(script.make_hixl());
                    return true;
                  })
                  .is_ok());
  static auto* const move = new std::shared_ptr<Move>(std::make_shared<Move>());
  (*move)->ops = {{4096, 8192, 1}};
  (*move)->transfer = std::make_shared<TransferState>(Deadline::never());
  (*move)->done = [](const Status&) { ADD_FAILURE() << "HIXL may still write for it"; };
  driver->submit("a:1", *move);
  ASSERT_TRUE(eventually([&] { return script.requests().size() == 1; }));
  script.hold("disconnect");
  const auto start = std::chrono::steady_clock::now();
  EXPECT_FALSE(driver->stop(Deadline::in(50ms), [] { ADD_FAILURE() << "HIXL has not let go"; }));
  EXPECT_LT(std::chrono::steady_clock::now() - start, scaled(5s));
  script.let_go("disconnect");
  EXPECT_TRUE(eventually([] { return threads_named("hixl-conn-8").empty(); })) << "an errand that comes back late finds nobody";
  delete &script;
}

}  // namespace
}  // namespace ray_hixl::test
