// A link's states, one after another: HIXL answers as the test says, and errands run when the test runs them.
#include "transport/hixl/driver/remote.h"

#include <algorithm>
#include <random>
#include <set>

#include "support/engines.h"
#include "support/eventually.h"
#include "support/scripted_hixl.h"

namespace ray_hixl::test {
namespace {

using namespace transport::hixl;
using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using transport::TransferState;

constexpr HixlCode kStrange = 507046;  // a raw error of the runtime

// Errands wait until the test runs them.
class ManualHost final : public RemoteHost {
 public:
  explicit ManualHost(const ScriptedHixl& script) : hixl_(script.make_hixl()) {}
  Hixl& hixl() override { return *hixl_; }
  std::uint64_t local_epoch() const override { return epoch; }
  std::uint64_t next_request() override { return ++last_request; }
  void run(std::function<Outcome()> call, std::function<void(Outcome)> done) override {
    errands.push_back({std::move(call), std::move(done)});
  }
  std::chrono::milliseconds connect_timeout() const override { return connect_time; }
  std::chrono::milliseconds stall_timeout() const override { return 50ms; }
  std::chrono::nanoseconds idle_time() const override { return idle; }
  DriverCounters& counters() override { return counts; }
  bool takes_moves() const override { return !tainted; }
  bool has_room(std::size_t mine) const override { return mine < room; }
  std::uint64_t next_turn() override { return ++last_turn; }
  bool has_turn(const Remote&) const override { return turn; }
  bool make_room() override { return has_others; }
  Status no_turn() const override { return Status(Code::kTransferTimeout, "no turn"); }
  Status no_room() const override { return Status(Code::kTransferTimeout, "no room"); }
  void taint() override { tainted = true; }
  bool is_quiet() const override { return quiet; }
  bool is_closing() const override { return closing; }

  void run_errand() {
    ASSERT_FALSE(errands.empty()) << "nothing was asked for";
    const auto [call, done] = std::move(errands.front());
    errands.pop_front();
    done(call());
  }

  struct Errand {
    std::function<Outcome()> call;
    std::function<void(Outcome)> done;
  };
  std::deque<Errand> errands;
  std::chrono::milliseconds connect_time = 1s;
  std::uint64_t epoch = 1;
  std::uint64_t last_request = 0;
  std::uint64_t last_turn = 0;
  std::chrono::nanoseconds idle = 1h;
  bool turn = true;         // it may link
  bool has_others = false;  // links that may make room for it
  DriverCounters counts;
  std::size_t room = 1000;
  bool tainted = false;
  bool quiet = true;
  bool closing = false;

 private:
  const std::unique_ptr<Hixl> hixl_;
};

// A move and how it ended.
struct Watched {
  std::shared_ptr<Move> move = std::make_shared<Move>();
  std::shared_ptr<TransferState> transfer = std::make_shared<TransferState>(Deadline::never());
  std::shared_ptr<std::vector<Status>> ends = std::make_shared<std::vector<Status>>();

  [[nodiscard]] bool ended() const { return !ends->empty(); }
  [[nodiscard]] Status result() const { return ends->empty() ? Status(Code::kInternal, "it has not ended") : ends->front(); }
};

struct Wish {
  std::size_t ops = 1;
  std::uint64_t remote_epoch = 1;
  std::uint64_t local_epoch = 1;
  const void* channel = nullptr;
  std::byte life{1};
};

Watched make_move(const Wish& wish = {}) {
  Watched made;
  made.move->ops.assign(wish.ops, {4096, 8192, 1});
  made.move->remote_epoch = wish.remote_epoch;
  made.move->local_epoch = wish.local_epoch;
  made.move->channel = wish.channel;
  made.move->owner.fill(wish.life);
  made.move->transfer = made.transfer;
  made.move->done = [ends = made.ends](const Status& status) { ends->push_back(status); };
  return made;
}

class RemoteTest : public testing::Test {
 protected:
  Watched add(const Wish& wish = {}) {
    Watched made = make_move(wish);
    remote->add(made.move);
    return made;
  }
  // A link that is up, with one move of the channel in flight.
  Watched add_in_flight(const Wish& wish = {}) {
    Watched made = add(wish);
    while (!host.errands.empty()) host.run_errand();
    EXPECT_EQ(made.move->in_flight, 1u);
    return made;
  }
  void stop(const Watched& watched) {
    watched.transfer->request_stop(Status(Code::kCancelled, "the test does not want it any more"));
    remote->heed_stops();
  }
  // The end of a request is seen.
  void complete(std::uint64_t id) {
    script.end_seen(id);
    remote->finished(id, "");
    remote->advance();
  }
  void complete_all() {
    for (const ScriptedHixl::Request& request : script.requests()) complete(request.id);
  }
  void fail(std::uint64_t id) {
    script.end_seen(id);
    remote->finished(id, "a request FAILED");
    remote->advance();
  }
  void fail_all() {
    for (const ScriptedHixl::Request& request : script.requests()) fail(request.id);
  }
  // A link that was given up goes down, and its engine with it.
  void replace_engine() {
    ASSERT_TRUE(host.tainted);
    while (!host.errands.empty()) host.run_errand();
    ASSERT_FALSE(remote->linked());
    host.tainted = false;
    remote->engine_is_gone();
  }
  // Time passes until the remote wants to be called.
  void advance_when_due() {
    ASSERT_TRUE(remote->due()) << "it waits for nothing";
    ASSERT_TRUE(eventually([this] { return remote->due()->passed(); }));
    remote->advance();
  }

  ScriptedHixl script;
  ManualHost host{script};
  const std::shared_ptr<Remote> remote = std::make_shared<Remote>(host, "peer:1");
};

TEST_F(RemoteTest, connects_once_for_all_that_wait_and_reads) {
  const Watched first = add();
  const Watched second = add({.ops = 3});
  EXPECT_THAT(host.errands, SizeIs(1));
  EXPECT_TRUE(remote->linked());
  host.run_errand();
  EXPECT_THAT(script.calls(), ElementsAre("connect peer:1", "read peer:1 1", "read peer:1 3"));
  EXPECT_FALSE(first.ended());
  complete_all();
  EXPECT_THAT(first.result(), IsOk());
  EXPECT_THAT(second.result(), IsOk());
  const Watched third = add();
  EXPECT_THAT(script.take_calls(), SizeIs(4)) << "the link stays";
  complete_all();
  EXPECT_THAT(third.result(), IsOk());
  ASSERT_TRUE(remote->due()) << "an unused link waits for its end";
  EXPECT_GT(remote->due()->remaining(), 50min);
}

TEST_F(RemoteTest, cuts_a_long_move_into_requests_of_4096_ops) {
  const Watched move = add_in_flight({.ops = 1});
  const Watched cut = add({.ops = 2 * 4096 + 5});
  EXPECT_THAT(script.calls(), ElementsAre("connect peer:1", "read peer:1 1", "read peer:1 4096", "read peer:1 4096", "read peer:1 5"));
  const auto requests = script.requests();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    EXPECT_FALSE(cut.ended());
    complete(requests[i].id);
  }
  EXPECT_THAT(*cut.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, has_as_many_requests_in_flight_as_there_is_room_for) {
  host.room = 3;
  const Watched cut = add({.ops = 20 * 4096});
  host.run_errand();
  EXPECT_THAT(script.requests(), SizeIs(3));
  complete(script.requests().front().id);
  EXPECT_THAT(script.requests(), SizeIs(3));
  while (!script.requests().empty()) complete_all();
  EXPECT_THAT(*cut.ends, ElementsAre(IsOk()));
  EXPECT_EQ(host.counts.requests, 20u);
}

TEST_F(RemoteTest, tries_a_failed_connect_three_times_with_pauses) {
  script.answer("connect", {kFailed, kResourceExhausted, kStrange});
  const Watched move = add();
  for (int i = 0; i < 2; ++i) {
    host.run_errand();
    EXPECT_FALSE(move.ended());
    EXPECT_THAT(host.errands, IsEmpty()) << "at once";
    advance_when_due();
  }
  host.run_errand();
  EXPECT_THAT(move.result(), FailsWith(Code::kConnectError));
  EXPECT_THAT(move.result().message(), HasSubstr("peer:1: error 507046: the script says so"));
  EXPECT_TRUE(remote->idle());
  EXPECT_EQ(host.counts.connects_failed, 3u);
}

TEST_F(RemoteTest, succeeds_after_a_failed_connect) {
  script.answer("connect", {kFailed});
  const Watched move = add();
  host.run_errand();
  advance_when_due();
  host.run_errand();
  complete_all();
  EXPECT_THAT(move.result(), IsOk());
}

TEST_F(RemoteTest, does_not_try_again_where_a_connect_timed_out_or_cannot_succeed) {
  for (const HixlCode code : {kTimeout, kParamInvalid, kUnsupported}) {
    script.answer("connect", {code});
    const Watched move = add();
    host.run_errand();
    EXPECT_THAT(move.result(), FailsWith(Code::kConnectError));
    EXPECT_TRUE(remote->idle());
  }
}

TEST_F(RemoteTest, takes_down_a_link_that_it_did_not_make) {
  script.answer("connect", {kAlreadyConnected});
  const Watched move = add();
  host.run_errand();
  EXPECT_THAT(script.calls(), ElementsAre("connect peer:1", "disconnect peer:1", "connect peer:1", "read peer:1 1"));
  complete_all();
  EXPECT_THAT(move.result(), IsOk());
}

TEST_F(RemoteTest, makes_the_link_anew_for_newer_memory_of_the_peer_once_what_is_in_flight_has_ended) {
  const Watched old = add_in_flight();
  const Watched newer = add({.remote_epoch = 2});
  const Watched behind = add();
  EXPECT_THAT(host.errands, IsEmpty()) << "the old one is still in flight";
  EXPECT_THAT(script.take_calls(), ElementsAre("connect peer:1", "read peer:1 1"));
  complete_all();
  EXPECT_THAT(old.result(), IsOk());
  host.run_errand();
  host.run_errand();
  EXPECT_THAT(script.calls(), ElementsAre("disconnect peer:1", "connect peer:1", "read peer:1 1", "read peer:1 1"));
  complete_all();
  EXPECT_THAT(newer.result(), IsOk());
  EXPECT_THAT(behind.result(), IsOk());
  EXPECT_EQ(host.counts.refreshes, 1u);
  EXPECT_EQ(host.counts.links_broken, 0u);
  EXPECT_EQ(newer.move->attempts, 0);
}

TEST_F(RemoteTest, makes_the_link_anew_for_newer_memory_here) {
  const Watched old = add_in_flight();
  complete_all();
  host.epoch = 7;
  const Watched newer = add({.local_epoch = 7});
  host.run_errand();
  host.run_errand();
  EXPECT_THAT(script.calls(), ElementsAre("connect peer:1", "read peer:1 1", "disconnect peer:1", "connect peer:1", "read peer:1 1"));
  complete_all();
  EXPECT_THAT(newer.result(), IsOk());
  const Watched same = add({.local_epoch = 7});
  EXPECT_EQ(host.counts.connects, 2u);
}

// What is registered while a connect is under way may not be part of it.
TEST_F(RemoteTest, counts_only_memory_that_was_there_before_the_connect) {
  const Watched old = add();
  host.epoch = 2;
  const Watched local = add({.local_epoch = 2});
  const Watched remote_memory = add({.remote_epoch = 2});
  host.run_errand();
  EXPECT_THAT(script.requests(), SizeIs(1));
  complete_all();
  host.run_errand();
  host.run_errand();
  EXPECT_THAT(script.requests(), SizeIs(2));
  EXPECT_EQ(host.counts.connects, 2u);
}

// A link shows all that was there; the second object may lie in memory that was registered before the link was made.
TEST_F(RemoteTest, knows_that_a_link_shows_what_the_peer_had_when_it_was_described) {
  Watched first = make_move({.remote_epoch = 1});
  first.move->described_epoch = 3;
  remote->add(first.move);
  host.run_errand();
  const Watched second = add({.remote_epoch = 3});
  EXPECT_THAT(script.requests(), SizeIs(2));
  EXPECT_EQ(host.counts.refreshes, 0u);
  fail_all();
  while (!host.errands.empty()) host.run_errand();
  const Watched third = add({.remote_epoch = 3});
  EXPECT_THAT(script.requests(), SizeIs(3)) << "so does the next one";
}

TEST_F(RemoteTest, does_not_wait_longer_for_a_link_than_a_connect_may_take) {
  host.connect_time = 10ms;
  const Watched early = add();
  EXPECT_FALSE(early.ended());
  advance_when_due();
  EXPECT_THAT(early.result(), FailsWith(Code::kConnectError));
  EXPECT_THAT(early.result().message(), AllOf(HasSubstr("peer:1"), HasSubstr("connect_timeout_s (10 ms)")));
  EXPECT_FALSE(remote->idle()) << "HIXL's call goes on";
  host.run_errand();
  EXPECT_TRUE(remote->disconnecting()) << "nobody wants it";
  host.run_errand();
  EXPECT_TRUE(remote->idle());
  EXPECT_THAT(script.calls(), ElementsAre("connect peer:1", "disconnect peer:1"));
}

TEST_F(RemoteTest, uses_a_late_link_for_who_still_waits) {
  host.connect_time = 10ms;
  const Watched early = add();
  advance_when_due();
  EXPECT_TRUE(early.ended());
  const Watched later = add();
  EXPECT_FALSE(later.ended()) << "it has a time of its own";
  host.run_errand();
  complete_all();
  EXPECT_THAT(later.result(), IsOk());
  EXPECT_THAT(script.calls(), ElementsAre("connect peer:1", "read peer:1 1"));
}

TEST_F(RemoteTest, lets_nothing_go_where_hixl_does_not_take_the_link_down) {
  const Watched move = add_in_flight();
  script.answer("disconnect", {kStrange});
  fail_all();
  host.run_errand();
  EXPECT_TRUE(host.tainted);
  EXPECT_EQ(host.counts.disconnects_failed, 1u);
  EXPECT_TRUE(remote->is_dirty());
  stop(move);
  EXPECT_FALSE(move.ended()) << "its bytes may still come";
  EXPECT_FALSE(remote->idle());
  EXPECT_THAT(host.errands, IsEmpty());
  replace_engine();
  EXPECT_THAT(move.result(), FailsWith(Code::kCancelled));
  EXPECT_TRUE(remote->idle());
}

TEST_F(RemoteTest, takes_a_link_that_hixl_does_not_know_for_one_that_is_down) {
  const Watched move = add_in_flight();
  script.answer("disconnect", {kNotConnected});
  fail_all();
  host.run_errand();
  EXPECT_FALSE(host.tainted);
  host.run_errand();
  complete_all();
  EXPECT_THAT(move.result(), IsOk());
}

TEST_F(RemoteTest, speaks_of_regions_where_the_peer_has_too_many) {
  script.answer("connect", {kParamInvalid, kParamInvalid});
  const Watched full = add({.remote_epoch = 4097});
  host.run_errand();
  EXPECT_THAT(full.result(), FailsWith(Code::kConnectError));
  EXPECT_THAT(full.result().message(),
              AllOf(HasSubstr("PARAM_INVALID (103900)"), HasSubstr("registered 4097"), Not(HasSubstr("HCCL_INTRA_ROCE_ENABLE"))));
  const Watched other = add({.remote_epoch = 4096, .life = std::byte{2}});
  host.run_errand();
  EXPECT_THAT(other.result().message(), AllOf(HasSubstr("HCCL_INTRA_ROCE_ENABLE"), Not(HasSubstr("regions"))));
}

TEST_F(RemoteTest, makes_the_link_anew_once_where_hixl_does_not_know_the_memory) {
  const Watched other = add_in_flight();
  script.answer("read", {kParamInvalid});
  const Watched move = add();
  EXPECT_THAT(host.errands, IsEmpty()) << "the other one is in flight";
  complete_all();
  EXPECT_THAT(other.result(), IsOk());
  host.run_errand();
  script.answer("read", {kParamInvalid});
  host.run_errand();
  EXPECT_THAT(move.result(), FailsWith(Code::kInternal));
  EXPECT_THAT(move.result().message(), HasSubstr("PARAM_INVALID (103900)"));
  EXPECT_THAT(host.errands, IsEmpty()) << "the link is as good as before";
  const Watched after = add();
  complete_all();
  EXPECT_THAT(after.result(), IsOk());
}

TEST_F(RemoteTest, ends_a_move_of_unknown_memory_only_when_its_other_requests_have_ended) {
  const Watched opener = add_in_flight();
  complete_all();
  script.answer("read", {kHixlOk, kParamInvalid});
  const Watched cut = add({.ops = 2 * 4096});
  EXPECT_FALSE(cut.ended());
  complete_all();
  host.run_errand();
  script.answer("read", {kParamInvalid});
  host.run_errand();
  EXPECT_THAT(*cut.ends, ElementsAre(FailsWith(Code::kInternal)));
}

TEST_F(RemoteTest, tries_again_where_hixl_is_short_of_something) {
  const Watched opener = add_in_flight();
  complete_all();
  script.answer("read", {kResourceExhausted, kResourceExhausted, kResourceExhausted});
  const Watched move = add();
  for (int i = 0; i < 3; ++i) advance_when_due();
  EXPECT_THAT(script.requests(), SizeIs(1));
  complete_all();
  EXPECT_THAT(move.result(), IsOk());
  EXPECT_EQ(host.counts.exhausted, 3u);
  EXPECT_EQ(host.counts.connects, 1u) << "the link was good all along";
}

TEST_F(RemoteTest, ends_a_move_that_waits_for_room_when_it_is_to_stop) {
  const Watched opener = add_in_flight();
  complete_all();
  script.answer("read", std::vector<HixlCode>(100, kResourceExhausted));
  const Watched move = add();
  stop(move);
  EXPECT_THAT(*move.ends, ElementsAre(FailsWith(Code::kCancelled)));
}

TEST_F(RemoteTest, takes_the_link_down_before_it_tries_again_what_failed) {
  const Watched first = add_in_flight();
  const Watched second = add();
  fail(script.requests().front().id);
  const Watched third = add();
  EXPECT_THAT(script.take_calls(), SizeIs(3)) << "nothing is read while the link goes down";
  EXPECT_THAT(host.errands, IsEmpty()) << "the second one may still finish";
  fail_all();
  EXPECT_FALSE(first.ended());
  EXPECT_FALSE(second.ended());
  host.run_errand();
  host.run_errand();
  EXPECT_THAT(script.take_calls(), ElementsAre("disconnect peer:1", "connect peer:1", "read peer:1 1", "read peer:1 1", "read peer:1 1"));
  complete_all();
  for (const Watched& each : {first, second, third}) EXPECT_THAT(*each.ends, ElementsAre(IsOk()));
  EXPECT_EQ(host.counts.retries, 2u);
  EXPECT_EQ(host.counts.links_broken, 1u);
  EXPECT_FALSE(host.tainted) << "all requests had ended";
}

// Another one of the move may end well afterwards.
TEST_F(RemoteTest, does_not_end_a_move_whose_request_failed_before_the_link_is_down) {
  const Watched opener = add_in_flight();
  complete_all();
  const Watched cut = add({.ops = 2 * 4096});
  ASSERT_THAT(script.requests(), SizeIs(2));
  const auto requests = script.requests();
  fail(requests[0].id);
  complete(requests[1].id);
  EXPECT_FALSE(cut.ended());
  host.run_errand();
  host.run_errand();
  EXPECT_THAT(script.requests(), SizeIs(2)) << "all of it is read again";
  complete_all();
  EXPECT_THAT(*cut.ends, ElementsAre(IsOk()));
}

// HIXL would leave a record of what finishes later to whoever has the slot then.
TEST_F(RemoteTest, takes_no_link_down_while_a_request_may_still_finish) {
  const Watched first = add_in_flight();
  const Watched second = add();
  fail(script.requests().front().id);
  EXPECT_THAT(host.errands, IsEmpty());
  host.quiet = false;
  advance_when_due();
  EXPECT_TRUE(host.tainted) << "it had its time";
  EXPECT_THAT(host.errands, IsEmpty()) << "other links have requests in flight";
  EXPECT_FALSE(remote->is_busy()) << "nobody else waits for it";
  host.quiet = true;
  remote->advance();
  host.run_errand();
  EXPECT_FALSE(first.ended());
  EXPECT_FALSE(second.ended()) << "not before the engine is gone";
  const Watched third = add();
  EXPECT_THAT(host.errands, IsEmpty()) << "no link is made while the engine is being replaced";
  replace_engine();
  host.run_errand();
  complete_all();
  for (const Watched& each : {first, second, third}) EXPECT_THAT(*each.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, forgives_a_request_that_ends_after_the_link_was_given_up) {
  const Watched stuck = add_in_flight();
  host.quiet = false;
  stop(stuck);
  advance_when_due();
  EXPECT_TRUE(host.tainted);
  EXPECT_TRUE(remote->polls());
  complete_all();
  EXPECT_THAT(*stuck.ends, ElementsAre(IsOk())) << "every byte is there";
  host.run_errand();
  EXPECT_FALSE(remote->is_dirty());
}

TEST_F(RemoteTest, retires_once_its_requests_have_ended) {
  const Watched move = add_in_flight();
  host.tainted = true;
  const Watched waiting = add();
  remote->retire(false);
  remote->advance();
  EXPECT_THAT(host.errands, IsEmpty());
  complete_all();
  EXPECT_THAT(*move.ends, ElementsAre(IsOk()));
  EXPECT_EQ(host.counts.links_broken, 0u);
  replace_engine();
  host.run_errand();
  complete_all();
  EXPECT_THAT(*waiting.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, is_given_up_where_it_has_to_retire_now) {
  const Watched move = add_in_flight();
  host.tainted = true;
  remote->retire(true);
  host.run_errand();
  EXPECT_TRUE(remote->is_dirty());
  EXPECT_FALSE(move.ended());
  replace_engine();
  host.run_errand();
  complete_all();
  EXPECT_THAT(*move.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, ends_what_waits_where_there_is_no_engine_to_be_had) {
  const Watched opener = add_in_flight();
  complete_all();
  host.tainted = true;
  const Watched waiting = add();
  remote->end_waiting(Status(Code::kNotAvailable, "no engine"));
  EXPECT_THAT(*waiting.ends, ElementsAre(FailsWith(Code::kNotAvailable)));
}

TEST_F(RemoteTest, tells_what_a_move_waits_for_that_there_is_no_memory_for) {
  for (const HixlCode code : {207018u, 207001u, 200000u}) {
    const Watched opener = add();
    while (!host.errands.empty()) host.run_errand();
    complete_all();
    script.answer("read", {code});
    const Watched move = add();
    EXPECT_THAT(move.transfer->waiting(), FailsWith(Code::kOutOfMemory));
    advance_when_due();
    EXPECT_THAT(move.transfer->waiting(), IsOk());
    complete_all();
    EXPECT_THAT(*move.ends, ElementsAre(IsOk()));
  }
  EXPECT_EQ(host.counts.connects, 1u) << "the link was good all along";
}

TEST_F(RemoteTest, retries_a_whole_move_whose_later_request_failed) {
  const Watched cut = add_in_flight({.ops = 1});
  const Watched long_move = add({.ops = 2 * 4096});
  complete(script.requests()[1].id);
  fail(script.requests()[1].id);
  complete_all();
  host.run_errand();
  host.run_errand();
  const auto requests = script.requests();
  ASSERT_THAT(requests, SizeIs(2));
  std::size_t ops = 0;
  for (const auto& request : requests) ops += request.ops.size();
  EXPECT_EQ(ops, 2u * 4096);
  complete_all();
  EXPECT_THAT(*long_move.ends, ElementsAre(IsOk()));
  EXPECT_THAT(*cut.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, gives_up_after_three_links_that_failed_under_a_move) {
  const Watched move = add_in_flight();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(move.ended());
    fail_all();
    while (!host.errands.empty()) host.run_errand();
  }
  EXPECT_THAT(*move.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  EXPECT_THAT(move.result().message(), HasSubstr("a request FAILED"));
  EXPECT_TRUE(remote->idle());
}

// Such a call may have done a part.
TEST_F(RemoteTest, takes_any_other_answer_of_a_read_for_a_broken_link) {
  for (const HixlCode code : {kFailed, kTimeout, kNotConnected, kUnsupported, kStrange}) {
    const Watched other = add_in_flight();
    script.answer("read", {code});
    const Watched move = add();
    EXPECT_FALSE(move.ended());
    EXPECT_FALSE(other.ended());
    stop(move);
    host.run_errand();
    EXPECT_FALSE(move.ended()) << "HIXL may have begun to write";
    replace_engine();
    EXPECT_THAT(*move.ends, ElementsAre(FailsWith(Code::kCancelled)));
    host.run_errand();
    complete_all();
    EXPECT_THAT(*other.ends, ElementsAre(IsOk()));
  }
}

TEST_F(RemoteTest, gives_up_after_three_reads_that_failed_at_once) {
  script.answer("read", std::vector<HixlCode>(100, kStrange));
  const Watched move = add();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(move.ended());
    host.run_errand();
    replace_engine();
  }
  EXPECT_THAT(*move.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  EXPECT_THAT(move.result().message(), HasSubstr("error 507046: the script says so"));
  EXPECT_EQ(script.count("read"), 3u);
  EXPECT_TRUE(remote->idle());
}

TEST_F(RemoteTest, waits_a_moment_for_a_move_that_is_to_stop_and_ends_it_well_if_it_completes) {
  const Watched move = add_in_flight();
  stop(move);
  EXPECT_FALSE(move.ended());
  EXPECT_TRUE(remote->due());
  complete_all();
  EXPECT_THAT(*move.ends, ElementsAre(IsOk())) << "every byte is there";
  EXPECT_THAT(host.errands, IsEmpty());
}

TEST_F(RemoteTest, gives_the_link_up_for_a_move_that_does_not_stop_and_tries_the_others_again) {
  const Watched stuck = add_in_flight();
  const Watched other = add();
  stop(stuck);
  advance_when_due();
  EXPECT_FALSE(stuck.ended()) << "it may still be written to";
  replace_engine();
  EXPECT_THAT(*stuck.ends, ElementsAre(FailsWith(Code::kCancelled)));
  EXPECT_FALSE(other.ended());
  host.run_errand();
  complete_all();
  EXPECT_THAT(*other.ends, ElementsAre(IsOk()));
}

// They did nothing wrong, and the link did not fail.
TEST_F(RemoteTest, does_not_count_it_against_the_others_that_a_link_was_given_up) {
  const Watched other = add_in_flight();
  for (int i = 0; i < 3; ++i) {
    const Watched stuck = add();
    stop(stuck);
    advance_when_due();
    replace_engine();
    EXPECT_THAT(*stuck.ends, ElementsAre(FailsWith(Code::kCancelled)));
    host.run_errand();
  }
  EXPECT_FALSE(other.ended());
  complete_all();
  EXPECT_THAT(*other.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, gives_a_draining_link_up_for_a_move_that_does_not_stop) {
  const Watched stuck = add_in_flight();
  const Watched newer = add({.remote_epoch = 2});
  stop(stuck);
  advance_when_due();
  replace_engine();
  EXPECT_THAT(*stuck.ends, ElementsAre(FailsWith(Code::kCancelled)));
  host.run_errand();
  complete_all();
  EXPECT_THAT(*newer.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, ends_what_hixl_does_not_have_at_once) {
  const Watched connecting = add();
  stop(connecting);
  EXPECT_THAT(*connecting.ends, ElementsAre(FailsWith(Code::kCancelled)));
  host.run_errand();
  const Watched in_flight = add();
  const Watched draining = add({.remote_epoch = 9});
  stop(draining);
  EXPECT_THAT(*draining.ends, ElementsAre(FailsWith(Code::kCancelled)));
  fail_all();
  const Watched disconnecting = add();
  stop(disconnecting);
  EXPECT_THAT(*disconnecting.ends, ElementsAre(FailsWith(Code::kCancelled)));
  EXPECT_FALSE(in_flight.ended());
}

TEST_F(RemoteTest, does_not_start_what_is_to_stop_already) {
  Watched move = make_move();
  move.transfer->request_stop(Status(Code::kCancelled, "early"));
  remote->add(move.move);
  EXPECT_THAT(*move.ends, ElementsAre(FailsWith(Code::kCancelled)));
  EXPECT_TRUE(remote->idle());
}

TEST_F(RemoteTest, meets_a_new_life_of_the_peer_at_the_old_address) {
  const Watched old = add_in_flight();
  Watched waiting = make_move({.remote_epoch = 5});
  remote->add(waiting.move);
  const Watched fresh = add({.life = std::byte{2}});
  EXPECT_THAT(*waiting.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  EXPECT_FALSE(old.ended()) << "HIXL has it";
  advance_when_due();
  replace_engine();
  EXPECT_THAT(*old.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  EXPECT_THAT(old.result().message(), HasSubstr("restarted"));
  host.run_errand();
  complete_all();
  EXPECT_THAT(*fresh.ends, ElementsAre(IsOk()));
  EXPECT_THAT(script.take_calls(), ElementsAre("connect peer:1", "read peer:1 1", "disconnect peer:1", "connect peer:1", "read peer:1 1"));
}

TEST_F(RemoteTest, makes_an_idle_link_anew_for_a_new_life_with_epochs_of_its_own) {
  const Watched old = add_in_flight({.remote_epoch = 8});
  complete_all();
  const Watched fresh = add({.remote_epoch = 1, .life = std::byte{2}});
  host.run_errand();
  host.run_errand();
  complete_all();
  EXPECT_THAT(*fresh.ends, ElementsAre(IsOk()));
  const Watched newer = add({.remote_epoch = 2, .life = std::byte{2}});
  EXPECT_THAT(host.errands, SizeIs(1)) << "the link shows the new life's memory as of its epoch 1";
}

TEST_F(RemoteTest, meets_a_new_life_while_it_connects_to_the_old_one) {
  const Watched old = add();
  const Watched fresh = add({.life = std::byte{2}});
  EXPECT_THAT(*old.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  while (!host.errands.empty()) host.run_errand();
  complete_all();
  EXPECT_THAT(*fresh.ends, ElementsAre(IsOk()));
  EXPECT_EQ(host.counts.connects, 2u) << "the first one may have reached the old life";
}

const int kMine = 0;
const int kOther = 0;
const Status kGone(Code::kPeerGone, "its process ended");

TEST_F(RemoteTest, takes_the_link_down_when_its_last_channel_goes) {
  const Watched in_flight = add_in_flight({.channel = &kMine});
  const Watched waiting = add({.remote_epoch = 2, .channel = &kMine});
  remote->abandon(&kMine, kGone);
  EXPECT_THAT(*waiting.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  EXPECT_FALSE(in_flight.ended()) << "HIXL has it";
  advance_when_due();
  replace_engine();
  EXPECT_THAT(*in_flight.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  EXPECT_TRUE(remote->idle());
}

TEST_F(RemoteTest, keeps_the_link_for_another_channel) {
  const Watched mine = add_in_flight({.channel = &kMine});
  complete_all();
  const Watched others = add({.channel = &kOther});
  const Watched draining = add({.remote_epoch = 2, .channel = &kMine});
  remote->abandon(&kMine, kGone);
  EXPECT_THAT(*draining.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  EXPECT_EQ(host.counts.links_broken, 0u);
  complete_all();
  EXPECT_THAT(*others.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, tries_again_for_another_channel_what_a_channel_with_requests_takes_down) {
  const Watched mine = add_in_flight({.channel = &kMine});
  const Watched others = add({.channel = &kOther});
  remote->abandon(&kMine, kGone);
  advance_when_due();
  replace_engine();
  EXPECT_THAT(*mine.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  EXPECT_FALSE(others.ended());
  host.run_errand();
  complete_all();
  EXPECT_THAT(*others.ends, ElementsAre(IsOk()));
}

// Every link of a device hears of every channel that goes.
TEST_F(RemoteTest, does_not_care_for_a_channel_that_never_used_it) {
  const Watched mine = add_in_flight({.channel = &kMine});
  remote->abandon(&kOther, kGone);
  EXPECT_EQ(host.counts.links_broken, 0u);
  complete_all();
  EXPECT_THAT(*mine.ends, ElementsAre(IsOk()));
  remote->abandon(&kOther, kGone);
  EXPECT_TRUE(remote->linked()) << "the idle link of another peer";
  EXPECT_THAT(host.errands, IsEmpty());
}

TEST_F(RemoteTest, takes_the_link_down_as_soon_as_it_is_up_if_nobody_wants_it_any_more) {
  const Watched mine = add({.channel = &kMine});
  remote->abandon(&kMine, kGone);
  EXPECT_THAT(*mine.ends, ElementsAre(FailsWith(Code::kPeerGone)));
  host.run_errand();
  host.run_errand();
  EXPECT_THAT(script.calls(), ElementsAre("connect peer:1", "disconnect peer:1"));
  EXPECT_TRUE(remote->idle());
}

TEST_F(RemoteTest, makes_the_link_anew_for_a_move_that_comes_when_nobody_wanted_it) {
  const Watched mine = add({.channel = &kMine});
  remote->abandon(&kMine, kGone);
  const Watched others = add({.channel = &kOther});
  while (!host.errands.empty()) host.run_errand();
  complete_all();
  EXPECT_THAT(*others.ends, ElementsAre(IsOk()));
}

TEST_F(RemoteTest, ends_everything_when_all_channels_go) {
  const Watched mine = add_in_flight({.channel = &kMine});
  const Watched others = add({.channel = &kOther});
  const Watched waiting = add({.remote_epoch = 2, .channel = &kOther});
  host.closing = true;
  remote->abandon(nullptr, Status(Code::kClosed, "closed"));
  EXPECT_THAT(*waiting.ends, ElementsAre(FailsWith(Code::kClosed)));
  host.run_errand();
  EXPECT_THAT(*mine.ends, ElementsAre(FailsWith(Code::kClosed)));
  EXPECT_THAT(*others.ends, ElementsAre(FailsWith(Code::kClosed)));
  EXPECT_TRUE(remote->idle());
}

// Anything at any time: every move ends exactly once, and none while HIXL may write for it.
TEST_F(RemoteTest, ends_every_move_once_and_none_early) {
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const auto one_of = [&](std::size_t n) { return std::uniform_int_distribution<std::size_t>(0, n - 1)(random); };
    const auto under_test = std::make_shared<Remote>(host, "peer:1");
    const int channels[3] = {};
    std::vector<Watched> moves;
    std::ptrdiff_t early = 0;
    const auto replace_if_due = [&] {
      if (!host.tainted || under_test->linked() || !host.errands.empty()) return;
      host.tainted = false;
      under_test->engine_is_gone();
    };
    for (int step = 0; step < 60; ++step) {
      const auto requests = script.requests();
      switch (one_of(9)) {
        case 0:
        case 1: {
          Watched made = make_move({1 + one_of(3) * 4096, 1 + one_of(3), 1 + one_of(3), &channels[one_of(3)], std::byte(one_of(12) / 11)});
          const std::uintptr_t mark = moves.size() + 1;
          for (OpDesc& op : made.move->ops) op.local = mark;
          made.move->done = [&, mark, ends = made.ends](const Status& status) {
            ends->push_back(status);
            early += std::ranges::count(script.requests(), mark, [](const auto& request) { return request.ops.front().local; });
          };
          moves.push_back(made);
          under_test->add(made.move);
          break;
        }
        case 2:
          if (!moves.empty()) moves[one_of(moves.size())].transfer->request_stop(Status(Code::kCancelled, "random"));
          under_test->heed_stops();
          break;
        case 3: under_test->abandon(&channels[one_of(3)], kGone); break;
        case 4:
          if (requests.empty() || under_test->disconnecting()) break;
          script.end_seen(requests.front().id);
          under_test->finished(requests.front().id, one_of(3) == 0 ? "FAILED" : "");
          break;
        case 5: {
          const std::vector<HixlCode> codes = {kHixlOk, kParamInvalid, kFailed, kResourceExhausted, kStrange};
          script.answer("read", {codes[one_of(codes.size())]});
          script.answer("connect", {one_of(2) == 0 ? kHixlOk : codes[one_of(codes.size())]});
          host.epoch = 1 + one_of(3);
          break;
        }
        default:
          if (!host.errands.empty()) host.run_errand();
          under_test->advance();
          replace_if_due();
      }
    }
    script.answer("read", {});
    script.answer("connect", {});
    host.epoch = 3;
    const auto all_ended = [&] {
      while (!host.errands.empty()) host.run_errand();
      for (const auto& request : script.requests()) {
        script.end_seen(request.id);
        under_test->finished(request.id, "");
      }
      under_test->advance();
      replace_if_due();
      return host.errands.empty() && std::ranges::all_of(moves, &Watched::ended);
    };
    ASSERT_TRUE(eventually(all_ended));
    EXPECT_EQ(early, 0);
    for (const Watched& each : moves) ASSERT_THAT(*each.ends, SizeIs(1));
    under_test->abandon(nullptr, kGone);
    while (!host.errands.empty()) host.run_errand();
    replace_if_due();
    ASSERT_TRUE(under_test->idle());
    ASSERT_THAT(script.requests(), IsEmpty());
  }
}

// ---- Moves that another transport can have.

class RemoteGivesWay : public RemoteTest {
 protected:
  // In an hour, or once time passes for it.
  Watched add_that_gives_way(const Wish& wish = {}) {
    Watched made = make_move(wish);
    made.move->gives_way_at = Deadline::in(1h);
    remote->add(made.move);
    return made;
  }
  static void pass_time(const Watched& given) { given.move->gives_way_at = Deadline::in(0s); }
  template <class Why>
  void expect_gave_way(const Watched& given, const Why& why) {
    ASSERT_TRUE(given.ended());
    EXPECT_TRUE(given.move->gave_way);
    EXPECT_EQ(given.result().code(), Code::kConnectError);
    EXPECT_THAT(given.result().message(), AllOf(HasSubstr("half of the transfer's time"), why));
  }
  void expect_gives_way(const Watched& given, const char* why) {
    ASSERT_FALSE(given.ended());
    ASSERT_TRUE(remote->due().has_value());
    EXPECT_LE(remote->due()->when(), given.move->gives_way_at.when());
    pass_time(given);
    remote->advance();
    expect_gave_way(given, HasSubstr(why));
  }
};

TEST_F(RemoteGivesWay, while_others_have_their_turn) {
  host.turn = false;
  const Watched patient = add();
  expect_gives_way(add_that_gives_way(), "no turn");
  EXPECT_FALSE(patient.ended());
  host.turn = true;
  remote->advance();
  while (!host.errands.empty()) host.run_errand();
  EXPECT_EQ(patient.move->in_flight, 1u);
  complete_all();
}

TEST_F(RemoteGivesWay, while_the_engine_is_replaced) {
  host.tainted = true;
  expect_gives_way(add_that_gives_way(), "being replaced");
}

TEST_F(RemoteGivesWay, between_two_connects) {
  script.answer("connect", {kFailed});
  const Watched given = add_that_gives_way();
  pass_time(given);
  host.run_errand();
  expect_gave_way(given, AnyOf(HasSubstr("tried again"), HasSubstr("out of reach")));  // the pause may be over before it is looked at
}

TEST_F(RemoteGivesWay, behind_requests_on_a_link_that_does_not_show_its_memory) {
  const Watched stuck = add_in_flight();
  expect_gives_way(add_that_gives_way({.remote_epoch = 2}), "have to end first");
  EXPECT_FALSE(stuck.ended());
  complete_all();
}

TEST_F(RemoteGivesWay, while_a_link_goes_down) {
  const Watched old = add_in_flight();
  complete_all();
  const Watched given = add_that_gives_way({.remote_epoch = 2});
  ASSERT_TRUE(remote->disconnecting());
  expect_gives_way(given, "taking an older link down");
}

TEST_F(RemoteGivesWay, behind_a_link_that_was_given_up) {
  host.quiet = false;
  const Watched stuck = add_in_flight();
  stop(stuck);
  ASSERT_TRUE(eventually([&] {
    remote->advance();
    return host.tainted;
  }));
  expect_gives_way(add_that_gives_way(), "does not end");
}

// Its driver would look at it again and again.
TEST_F(RemoteGivesWay, and_does_not_spin_while_a_part_of_it_is_in_flight) {
  const Watched stuck = add_in_flight();
  host.room = 2;
  const Watched cut = add_that_gives_way({.ops = 3 * 4096});
  ASSERT_EQ(cut.move->in_flight, 1u);
  stop(stuck);
  ASSERT_TRUE(eventually([&] {
    remote->advance();
    return host.tainted;
  }));
  while (!host.errands.empty()) host.run_errand();
  ASSERT_FALSE(remote->linked());
  ASSERT_TRUE(remote->is_dirty());
  pass_time(cut);
  remote->advance();
  EXPECT_FALSE(cut.ended());
  EXPECT_FALSE(remote->due().has_value());
}

}  // namespace
}  // namespace ray_hixl::test
