// Flight, state by state: what its link and its channels do comes from the test, one event at a time.
#include "link/flight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <numeric>
#include <optional>
#include <random>
#include <set>

#include "support/held_port.h"

namespace ray_hixl::link {
namespace {

using testing::HasSubstr;
using testing::SizeIs;
using transport::RemoteMemory;

// Holds its jobs until the test ends them.
class HeldChannel final : public transport::Channel {
 public:
  explicit HeldChannel(std::set<RemoteMemory> memory) : reads(std::move(memory)) {}
  Status can_read(RemoteMemory memory) const override {
    return reads.contains(memory) ? Status::ok() : Status(Code::kNotAvailable, "another memory");
  }
  Status reads_now(RemoteMemory memory) const override {
    return turned_out.contains(memory) ? Status(Code::kNotAvailable, "it turned out not to") : can_read(memory);
  }
  void submit(std::shared_ptr<transport::Job> job) override {
    jobs.push_back(std::move(job));
    if (submitted) submitted();
  }
  void heed_stops() override { ++heeded; }
  void on_notice(const control::Frame&) override {}
  void close(const Status&) override {}

  std::set<RemoteMemory> reads;
  std::set<RemoteMemory> turned_out;
  std::deque<std::shared_ptr<transport::Job>> jobs;
  std::function<void()> submitted;
  int heeded = 0;
};

class TestHost final : public FlightHost {
 public:
  struct Kinds {
    bool by_address = false;
    bool shows_generations = true;
  };
  explicit TestHost(Kinds kinds) : kinds_(kinds) {
    std::vector<Candidate> candidates;
    const std::vector<std::set<RemoteMemory>> kinds_of_memory = {{RemoteMemory::kOrdinary},
                                                                 {RemoteMemory::kSourceArena},
                                                                 {RemoteMemory::kDevice, RemoteMemory::kPinned},
                                                                 {RemoteMemory::kDevice, RemoteMemory::kAcross},
                                                                 {RemoteMemory::kOrdinary, RemoteMemory::kOwnersOnly}};
    for (const auto& memory : kinds_of_memory) {
      auto channel = std::make_unique<HeldChannel>(memory);
      channels.push_back(channel.get());
      Candidate& candidate = candidates.emplace_back();
      candidate.reads_by_address = kinds.by_address && transport::is_host(*memory.begin()) && !memory.contains(RemoteMemory::kOwnersOnly);
      candidate.channel = std::move(channel);
    }
    paths_.emplace(std::move(candidates));
  }

  const Paths& paths() const override { return *paths_; }
  const Candidate* choose(RemoteMemory memory) const override { return no_way ? nullptr : paths_->choose(memory); }
  const Candidate* choose_after(const Candidate& first, RemoteMemory memory) const override { return paths_->choose_after(first, memory); }
  Status no_path(RemoteMemory) const override { return {Code::kNotAvailable, "no path"}; }
  std::string peer_name() const override { return "peer"; }
  transport::Counters& counters() const override { return counters_; }
  Status state() const override { return up; }
  Status check_alive() const override { return up.is_ok() ? alive : up; }
  bool shows_generations() const override { return kinds_.shows_generations; }
  bool is_live(const Handle& handle) const override { return !freed.contains(handle.slot); }
  void ask_live(const std::vector<Handle>& handles, std::function<void(Status)> answer) override {
    questions.push_back({handles, std::move(answer)});
  }
  Resolver& resolver() override { return *resolver_; }
  memory::Reaper& reaper() override { return reaper_; }
  bool on_loop() const override { return is_loop; }
  Status run(std::function<void()> work) override {
    if (closing) return {Code::kClosed, "the engine was closed"};
    elsewhere.push_back(std::move(work));
    return Status::ok();
  }
  void post(std::function<void()> task) override { posted.push_back(std::move(task)); }
  net::Loop::TimerId at(Deadline deadline, std::function<void()> task) override {
    timers.try_emplace(++last_timer_, deadline, std::move(task));
    return last_timer_;
  }
  void cancel(net::Loop::TimerId timer) override { timers.erase(timer); }

  void run_posted() {
    while (!posted.empty()) {
      const auto task = std::move(posted.front());
      posted.pop_front();
      task();
    }
  }
  void run_elsewhere() {
    while (!elsewhere.empty()) {
      const auto task = std::move(elsewhere.front());
      elsewhere.pop_front();
      task();
    }
  }
  // The next timer, if there is one, is due now.
  void pass_time() {
    run_posted();
    if (timers.empty()) return;
    const auto task = std::move(timers.extract(timers.begin()).mapped().second);
    task();
    run_posted();
  }
  std::size_t jobs() const {
    return std::accumulate(channels.begin(), channels.end(), std::size_t{0},
                           [](std::size_t all, const HeldChannel* channel) { return all + channel->jobs.size(); });
  }
  std::uint64_t quarantined() const { return counters_.quarantined_bytes; }

  Status up;
  Status alive;
  bool is_loop = false;
  bool closing = false;
  bool no_way = false;            // no channel came up
  std::set<std::uint32_t> freed;  // slots
  std::vector<HeldChannel*> channels;
  test::HeldPort port;
  struct Question {
    std::vector<Handle> handles;
    std::function<void(Status)> answer;
  };
  std::deque<Question> questions;
  std::deque<std::function<void()>> posted;
  std::deque<std::function<void()>> elsewhere;
  std::map<net::Loop::TimerId, std::pair<Deadline, std::function<void()>>> timers;

 private:
  const Kinds kinds_;
  std::optional<Paths> paths_;
  mutable transport::Counters counters_;
  memory::CopyPool pool_{1};
  memory::Reaper reaper_;
  const std::shared_ptr<Resolver> resolver_ = std::make_shared<Resolver>(port, pool_, reaper_);
  net::Loop::TimerId last_timer_ = 0;
};

constexpr std::uint64_t kPieceBytes = 10;
constexpr std::uint64_t kArenaBase = 1u << 20;  // addresses from here on lie in the source arena

// A plan of one piece for each listed source out of `sources`.
std::shared_ptr<transport::Plan> make_plan(std::uint32_t sources, const std::vector<std::uint32_t>& pieces, bool callers_memory) {
  static std::array<std::byte, kPieceBytes> bytes;
  auto plan = std::make_shared<transport::Plan>();
  for (std::uint32_t slot = 0; slot < sources; ++slot) plan->sources.push_back({slot, 1, slot});
  for (const std::uint32_t source : pieces) {
    plan->pieces.push_back({bytes.data(), 0, kPieceBytes, 0, source});
    plan->bytes += kPieceBytes;
  }
  plan->callers_memory = callers_memory;
  return plan;
}

enum class Memory : std::uint8_t { kArena, kCallers };

class FlightTest : public testing::Test {
 protected:
  ~FlightTest() override {
    if (host) host->run_posted();  // what is left there keeps flights, and those the host
  }
  // One source, `pieces` pieces.
  void start(TestHost::Kinds kinds, Memory whose, std::size_t pieces = 1) {
    if (!host) host = std::make_shared<TestHost>(kinds);
    start(make_plan(1, std::vector<std::uint32_t>(pieces, 0), whose == Memory::kCallers));
  }
  // Only the flight keeps the plan's memory afterwards.
  void start(std::shared_ptr<transport::Plan> plan) {
    auto holds = std::make_shared<const int>(0);
    memory = holds;
    plan->once = true;
    plan->holds.set(std::move(holds));
    state = std::make_shared<transport::TransferState>(deadline, [this](Status result) {
      ++ends;
      EXPECT_TRUE(may_write() || memory.expired()) << "who sees the end cannot use the memory again";
      return result;
    });
    Flight::start(host, std::move(plan), state);
  }
  void resolve(std::size_t request, std::vector<control::RemoteRange> ranges = {{1000, kPieceBytes}}) {
    const control::Resolved resolved{std::move(ranges), {{1, kArenaBase, kArenaBase}}};
    host->port.asked.at(request)(test::reply_of(control::encode(request + 1, resolved)));
  }
  void end_job(std::size_t channel, const Status& status = Status::ok()) {
    auto& jobs = host->channels[channel]->jobs;
    ASSERT_FALSE(jobs.empty());
    const auto job = std::move(jobs.front());
    jobs.pop_front();
    job->end(status);
  }
  // The kernel does not read what is there for another process.
  void end_unreadable(std::uint64_t address) {
    host->channels[0]->jobs.at(0)->unreadable = address;
    end_job(0, Status(Code::kInvalidRegion, "not mapped, or a driver's"));
  }
  void stop() { state->request_stop(Status(Code::kCancelled, "cancelled")); }
  void expect_ended(Code code) {
    ASSERT_TRUE(state->done());
    EXPECT_EQ(state->result().code(), code) << state->result().to_string();
    host->run_posted();
    EXPECT_TRUE(host->timers.empty());
    EXPECT_EQ(ends, 1);
  }
  void expect_left_nothing() {
    EXPECT_TRUE(memory.expired()) << "something keeps the memory";
    EXPECT_EQ(host->quarantined(), 0u);
  }

  static constexpr TestHost::Kinds kByHandle{false, true};
  static constexpr TestHost::Kinds kByAddress{true, true};
  static constexpr TestHost::Kinds kFarAway{false, false};
  Deadline deadline = Deadline::in(std::chrono::hours(1));  // of the next start()
  std::shared_ptr<TestHost> host;
  std::shared_ptr<transport::TransferState> state;
  std::weak_ptr<const void> memory;
  int ends = 0;
  bool handed_over = false;  // a job: what waits to run elsewhere from then on makes others of it
  bool may_write() const { return host->jobs() > 0 || (handed_over && !host->elsewhere.empty()); }
};

TEST_F(FlightTest, moves_and_ends) {
  start(kByHandle, Memory::kCallers);
  ASSERT_EQ(host->jobs(), 1u);
  host->run_posted();
  EXPECT_THAT(host->timers, SizeIs(1)) << "its deadline";
  end_job(0);
  expect_ended(Code::kOk);
  expect_left_nothing();
}

TEST_F(FlightTest, stopped_while_it_starts_ends_a_second_later_and_not_at_its_deadline) {
  host = std::make_shared<TestHost>(kByHandle);
  host->channels[0]->submitted = [this] { stop(); };
  start(kByHandle, Memory::kCallers);
  host->run_posted();
  ASSERT_THAT(host->timers, SizeIs(1));
  EXPECT_LT(host->timers.begin()->second.first.remaining(), std::chrono::seconds(2));
  host->pass_time();
  expect_ended(Code::kCancelled);
  EXPECT_THAT(state->result().message(), HasSubstr("may still be written"));
  end_job(0);
  expect_left_nothing();
}

TEST_F(FlightTest, resolves_first_where_a_transport_needs_addresses) {
  start(kByAddress, Memory::kCallers);
  EXPECT_EQ(host->jobs(), 0u);
  resolve(0);
  ASSERT_EQ(host->jobs(), 1u);
  EXPECT_EQ(host->channels[0]->jobs[0]->pieces().at(0).address, 1000u);
  end_job(0);
  expect_ended(Code::kOk);
  expect_left_nothing();
}

TEST_F(FlightTest, splits_by_memory_and_ends_with_the_last_job) {
  start(kByAddress, Memory::kCallers);
  resolve(0, {{1000, 4}, {kArenaBase, 6}});
  ASSERT_EQ(host->jobs(), 2u);
  EXPECT_EQ(host->channels[0]->jobs[0]->pieces().at(0).length, 4u);
  EXPECT_EQ(host->channels[1]->jobs[0]->pieces().at(0).length, 6u);
  end_job(1);
  EXPECT_FALSE(state->done());
  end_job(0);
  expect_ended(Code::kOk);
}

TEST_F(FlightTest, does_not_ask_again_for_a_plan_that_it_knows) {
  host = std::make_shared<TestHost>(kByAddress);
  const auto plan = make_plan(1, {0}, true);
  start(plan);
  resolve(0);
  end_job(0);
  host->resolver().forget({0, 1, 0});
  start(plan);
  EXPECT_THAT(host->port.asked, SizeIs(1));
  EXPECT_EQ(host->channels[0]->jobs.at(0)->pieces().at(0).address, 1000u);
  end_job(0);
}

// ---- What is read often.

class FlightOfKeptPlan : public FlightTest {
 protected:
  // Gives the share of its only job, which `channel` has.
  std::shared_ptr<const transport::Share> share_of_next(std::size_t channel = 0) {
    state = std::make_shared<transport::TransferState>(deadline);
    Flight::start(host, plan, state);
    if (!host->port.asked.empty() && host->port.asked.back()) resolve(host->port.asked.size() - 1);
    EXPECT_THAT(host->channels[channel]->jobs, SizeIs(1));
    auto share = host->channels[channel]->jobs.at(0)->share;
    end_job(channel);
    EXPECT_TRUE(state->done() && state->result().is_ok());
    host->run_posted();
    return share;
  }
  const std::shared_ptr<transport::Plan> plan = make_plan(1, {0}, true);
};

TEST_F(FlightOfKeptPlan, is_split_once) {
  for (const TestHost::Kinds kinds : {kByHandle, kByAddress}) {
    host = std::make_shared<TestHost>(kinds);
    const auto first = share_of_next();
    EXPECT_EQ(share_of_next(), first);
  }
}

TEST_F(FlightOfKeptPlan, is_split_anew_for_another_link) {
  host = std::make_shared<TestHost>(kByHandle);
  const auto first = share_of_next();
  host = std::make_shared<TestHost>(kByHandle);
  EXPECT_NE(share_of_next(), first);
}

TEST_F(FlightOfKeptPlan, is_asked_for_where_only_another_link_needs_addresses) {
  host = std::make_shared<TestHost>(kByHandle);
  EXPECT_EQ(share_of_next()->pieces.at(0).address, 0u);
  host = std::make_shared<TestHost>(kByAddress);
  EXPECT_EQ(share_of_next()->pieces.at(0).address, 1000u);
  host = std::make_shared<TestHost>(kByHandle);
  EXPECT_EQ(share_of_next()->pieces.at(0).address, 0u);
}

TEST_F(FlightOfKeptPlan, is_split_anew_where_the_kernel_turned_out_not_to_read_it) {
  host = std::make_shared<TestHost>(kByAddress);
  (void)share_of_next();
  state = std::make_shared<transport::TransferState>(deadline);
  Flight::start(host, plan, state);
  end_unreadable(1000);
  end_job(4);
  EXPECT_EQ(state->result().code(), Code::kOk);
  (void)share_of_next(4);
}

TEST_F(FlightOfKeptPlan, for_one_transfer_keeps_nothing) {
  host = std::make_shared<TestHost>(kByHandle);
  plan->once = true;
  EXPECT_EQ(plan->kept.get(), nullptr);
  (void)share_of_next();
  EXPECT_EQ(plan->kept.get(), nullptr);
}

// ---- Before.

TEST_F(FlightTest, moves_nothing_over_a_link_that_is_down) {
  host = std::make_shared<TestHost>(kByHandle);
  host->up = Status(Code::kPeerGone, "lost");
  start(kByHandle, Memory::kCallers);
  EXPECT_EQ(host->jobs(), 0u);
  expect_ended(Code::kPeerGone);
  expect_left_nothing();
}

TEST_F(FlightTest, moves_nothing_out_of_what_was_closed_before) {
  host = std::make_shared<TestHost>(kByAddress);
  host->freed.insert(0);
  start(kByAddress, Memory::kCallers);
  EXPECT_THAT(host->port.asked, SizeIs(0));
  EXPECT_EQ(host->jobs(), 0u);
  expect_ended(Code::kInvalidRegion);
}

// A peer's end retires all that it had, and may be seen by that before the connection tells of it.
TEST_F(FlightTest, blames_the_end_of_a_peer_for_what_went_with_it) {
  host = std::make_shared<TestHost>(kByAddress);
  host->freed.insert(0);
  host->alive = Status(Code::kPeerGone, "it was closed");
  start(kByAddress, Memory::kCallers);
  EXPECT_EQ(host->jobs(), 0u);
  expect_ended(Code::kPeerGone);
}

TEST_F(FlightTest, moves_nothing_out_of_what_was_closed_since_it_was_resolved) {
  host = std::make_shared<TestHost>(kByAddress);
  const auto plan = make_plan(1, {0}, true);
  start(plan);
  resolve(0);
  end_job(0);
  host->freed.insert(0);
  start(plan);
  EXPECT_EQ(host->jobs(), 0u);
  ASSERT_TRUE(state->done());
  EXPECT_EQ(state->result().code(), Code::kInvalidRegion);
}

TEST_F(FlightTest, moves_nothing_out_of_what_was_closed_while_it_was_resolved) {
  start(kByAddress, Memory::kCallers);
  host->freed.insert(0);
  resolve(0);
  EXPECT_EQ(host->jobs(), 0u);
  expect_ended(Code::kInvalidRegion);
}

TEST_F(FlightTest, ends_with_what_the_owner_says_when_asked_for_addresses) {
  start(kByAddress, Memory::kCallers);
  host->port.asked.at(0)(Status(Code::kInvalidRegion, "unknown"));
  expect_ended(Code::kInvalidRegion);
  expect_left_nothing();
}

TEST_F(FlightTest, refuses_pieces_outside_of_what_is_there) {
  start(kByAddress, Memory::kCallers);
  resolve(0, {{1000, kPieceBytes - 1}});
  expect_ended(Code::kInvalidRegion);
  EXPECT_EQ(host->jobs(), 0u);
}

// ---- After.

TEST_F(FlightTest, delivers_nothing_that_was_freed_meanwhile) {
  start(kByHandle, Memory::kArena);
  host->freed.insert(0);
  end_job(0);
  expect_ended(Code::kInvalidRegion);
}

TEST_F(FlightTest, delivers_nothing_of_a_peer_that_died_meanwhile) {
  start(kByHandle, Memory::kArena);
  host->alive = Status(Code::kPeerGone, "its process ended");
  end_job(0);
  expect_ended(Code::kPeerGone);
}

TEST_F(FlightTest, tells_of_a_death_rather_than_of_no_way_to_read) {
  for (const Status& alive : {Status::ok(), Status(Code::kPeerGone, "its process ended")}) {
    host = std::make_shared<TestHost>(TestHost::Kinds{});
    host->no_way = true;
    host->alive = alive;
    start({}, Memory::kArena);
    ASSERT_TRUE(state->done());
    EXPECT_EQ(state->result().code(), alive.is_ok() ? Code::kNotAvailable : Code::kPeerGone);
  }
}

TEST_F(FlightTest, delivers_an_empty_object_only_while_it_is_published) {
  start(kByHandle, Memory::kArena, 0);
  expect_ended(Code::kOk);
  host->freed.insert(0);
  ends = 0;
  start(kByHandle, Memory::kArena, 0);
  expect_ended(Code::kInvalidRegion);
}

TEST_F(FlightTest, delivers_nothing_empty_of_a_dead_peer) {
  host = std::make_shared<TestHost>(kByHandle);
  host->alive = Status(Code::kPeerGone, "its process ended");
  start(kByHandle, Memory::kArena, 0);
  expect_ended(Code::kPeerGone);
}

TEST_F(FlightTest, asks_for_an_empty_object_where_generations_are_not_mapped) {
  for (const Code code : {Code::kOk, Code::kInvalidRegion}) {
    host = nullptr;
    ends = 0;
    start(kFarAway, Memory::kArena, 0);
    ASSERT_THAT(host->questions, SizeIs(1));
    EXPECT_FALSE(state->done());
    host->questions[0].answer(code == Code::kOk ? Status::ok() : Status(code, "freed"));
    expect_ended(code);
    expect_left_nothing();
  }
}

TEST_F(FlightTest, asks_only_for_what_no_channel_checked) {
  host = std::make_shared<TestHost>(kFarAway);
  start(make_plan(3, {0, 2}, true));
  EXPECT_THAT(host->questions, SizeIs(0));
  end_job(0);
  ASSERT_THAT(host->questions, SizeIs(1));
  EXPECT_THAT(host->questions[0].handles, testing::ElementsAre(Handle{1, 1, 1}));
  host->questions[0].answer(Status::ok());
  expect_ended(Code::kOk);
}

TEST_F(FlightTest, does_not_ask_for_what_its_channel_checked) {
  start(kFarAway, Memory::kCallers);
  end_job(0);
  EXPECT_THAT(host->questions, SizeIs(0));
  expect_ended(Code::kOk);
}

// ---- Stops.

TEST_F(FlightTest, stopped_while_the_owner_is_asked_holds_nothing) {
  for (const Memory where : {Memory::kArena, Memory::kCallers}) {
    host = nullptr;
    ends = 0;
    start(kByAddress, where);
    stop();
    expect_ended(Code::kCancelled);
    expect_left_nothing();
    resolve(0);  // late
    EXPECT_EQ(host->jobs(), 0u);
    EXPECT_EQ(ends, 1);
  }
}

TEST_F(FlightTest, stopped_while_it_is_confirmed_holds_nothing) {
  start(kFarAway, Memory::kArena, 0);
  stop();
  expect_ended(Code::kCancelled);
  expect_left_nothing();
  host->questions.at(0).answer(Status::ok());  // late
  EXPECT_EQ(ends, 1);
}

TEST_F(FlightTest, stopped_before_it_began_moves_nothing) {
  host = std::make_shared<TestHost>(kByHandle);
  auto plan = make_plan(1, {0}, true);
  state = std::make_shared<transport::TransferState>(Deadline::never());
  stop();
  Flight::start(host, std::move(plan), state);
  EXPECT_EQ(host->jobs(), 0u);
  ASSERT_TRUE(state->done());
  EXPECT_EQ(state->result().code(), Code::kCancelled);
}

TEST_F(FlightTest, leaves_arena_memory_behind_at_once) {
  start(kByHandle, Memory::kArena);
  stop();
  EXPECT_EQ(host->channels[0]->heeded, 1);
  expect_ended(Code::kCancelled);
  EXPECT_EQ(state->result().message(), "cancelled") << "the memory is nobody's";
  EXPECT_EQ(host->quarantined(), kPieceBytes);
  EXPECT_FALSE(memory.expired()) << "the job may still write to it";
  end_job(0, Status(Code::kCancelled, "cancelled"));
  expect_left_nothing();
  EXPECT_EQ(ends, 1);
}

TEST_F(FlightTest, waits_for_jobs_that_write_to_the_callers_memory) {
  start(kByHandle, Memory::kCallers);
  stop();
  EXPECT_EQ(host->channels[0]->heeded, 1);
  EXPECT_FALSE(state->done());
  host->run_posted();
  ASSERT_THAT(host->timers, SizeIs(1));
  EXPECT_LE(host->timers.begin()->second.first.remaining(), std::chrono::seconds(1));
  end_job(0, Status(Code::kCancelled, "cancelled"));
  expect_ended(Code::kCancelled);
  EXPECT_EQ(state->result().message(), "cancelled");
  expect_left_nothing();
}

TEST_F(FlightTest, says_when_the_callers_memory_may_still_be_written) {
  start(kByHandle, Memory::kCallers);
  stop();
  host->pass_time();
  expect_ended(Code::kCancelled);
  EXPECT_THAT(state->result().message(), HasSubstr("may still be written"));
  EXPECT_EQ(host->quarantined(), kPieceBytes);
  EXPECT_FALSE(memory.expired());
  end_job(0);
  expect_left_nothing();
}

TEST_F(FlightTest, its_deadline_is_a_stop) {
  start(kByHandle, Memory::kCallers);
  host->pass_time();
  EXPECT_FALSE(state->done());
  EXPECT_EQ(host->channels[0]->heeded, 1);
  end_job(0, Status(Code::kTransferTimeout, "the mover's words"));
  expect_ended(Code::kTransferTimeout);
  EXPECT_THAT(state->result().message(), HasSubstr("reading from the peer"));
}

// Ones that are short, on a machine that is busy.
TEST_F(FlightTest, its_deadline_is_a_stop_though_it_passed_before_the_loop_heard_of_it) {
  deadline = Deadline::in(std::chrono::nanoseconds(0));
  start(kByAddress, Memory::kCallers);
  EXPECT_FALSE(state->done());
  host->pass_time();
  expect_ended(Code::kTransferTimeout);
  expect_left_nothing();
}

TEST_F(FlightTest, a_job_that_fails_stops_the_others) {
  start(kByAddress, Memory::kCallers);
  resolve(0, {{1000, 4}, {kArenaBase, 6}});
  end_job(0, Status(Code::kInvalidRegion, "not mapped"));
  EXPECT_FALSE(state->done());
  EXPECT_EQ(host->channels[1]->heeded, 1);
  end_job(1, Status(Code::kCancelled, "stopped"));
  expect_ended(Code::kInvalidRegion);
  EXPECT_THAT(state->result().message(), HasSubstr("not mapped"));
  expect_left_nothing();
}

TEST_F(FlightTest, what_moved_well_in_spite_of_a_stop_is_delivered) {
  start(kByHandle, Memory::kCallers);
  stop();
  end_job(0);
  expect_ended(Code::kOk);
}

// ---- Off the loop.

TEST_F(FlightTest, splits_many_pieces_elsewhere_than_on_the_loop) {
  host = std::make_shared<TestHost>(kByHandle);
  host->is_loop = true;
  start(kByHandle, Memory::kArena, transport::kFewPieces);
  EXPECT_EQ(host->jobs(), 1u) << "so few take no time";
  end_job(0);
  start(kByHandle, Memory::kArena, transport::kFewPieces + 1);
  EXPECT_EQ(host->jobs(), 0u);
  host->run_elsewhere();
  ASSERT_EQ(host->jobs(), 1u);
  end_job(0);
  host->is_loop = false;
  start(kByHandle, Memory::kArena, transport::kFewPieces + 1);
  EXPECT_EQ(host->jobs(), 1u) << "the caller's own thread may take its time";
  end_job(0);
}

TEST_F(FlightOfKeptPlan, of_many_pieces_is_handed_to_channels_elsewhere_than_on_the_loop) {
  host = std::make_shared<TestHost>(kByHandle);
  plan->pieces.resize(transport::kFewPieces + 1, plan->pieces.front());
  const auto first = share_of_next();
  host->is_loop = true;
  state = std::make_shared<transport::TransferState>(deadline);
  Flight::start(host, plan, state);
  EXPECT_EQ(host->jobs(), 0u);
  host->run_elsewhere();
  ASSERT_EQ(host->jobs(), 1u);
  EXPECT_EQ(host->channels[0]->jobs[0]->share, first);
  end_job(0);
}

TEST_F(FlightTest, stopped_before_it_was_split_moves_nothing) {
  host = std::make_shared<TestHost>(kByHandle);
  host->is_loop = true;
  start(kByHandle, Memory::kCallers, transport::kFewPieces + 1);
  stop();
  expect_ended(Code::kCancelled);
  host->run_elsewhere();
  EXPECT_EQ(host->jobs(), 0u);
  expect_left_nothing();
}

TEST_F(FlightTest, ends_where_nothing_runs_any_more) {
  host = std::make_shared<TestHost>(kByHandle);
  host->is_loop = true;
  host->closing = true;
  start(kByHandle, Memory::kArena, transport::kFewPieces + 1);
  expect_ended(Code::kClosed);
}

// ---- Every order of events.

class FlightRounds : public FlightTest {
 protected:
  using Random = std::mt19937;
  static bool one_in(Random& random, unsigned many) { return random() % many == 0; }

  // Something that can happen now happens. False if nothing is left.
  bool step(Random& random) {
    std::vector<std::function<void()>> events;
    for (std::size_t i = 0; i < host->port.asked.size(); ++i) {
      if (!host->port.asked[i]) continue;
      events.emplace_back([&, i] {
        const auto answer = std::exchange(host->port.asked[i], nullptr);
        const control::Resolved resolved{{{1000, 4}, {kArenaBase, kPieceBytes - 4}}, {{1, kArenaBase, kArenaBase}}};
        answer(one_in(random, 4) ? Result<transport::Reply>(Status(Code::kInvalidRegion, "unknown"))
                                 : test::reply_of(control::encode(i + 1, resolved)));
      });
    }
    for (const std::size_t channel : {0, 1, 4}) {
      if (host->channels[channel]->jobs.empty()) continue;
      events.emplace_back([&, channel] { end_job(channel, one_in(random, 3) ? Status(Code::kInternal, "failed") : Status::ok()); });
    }
    if (!host->channels[0]->jobs.empty() && host->channels[0]->jobs.front()->share->has_another_way) {
      events.emplace_back([&] {
        handed_over = true;
        end_unreadable(host->channels[0]->jobs.front()->pieces().front().address);
      });
    }
    if (!host->questions.empty()) {
      events.emplace_back([&] {
        const auto answer = std::move(host->questions.front().answer);
        host->questions.pop_front();
        answer(one_in(random, 3) ? Status(Code::kInvalidRegion, "freed") : Status::ok());
      });
    }
    if (!host->posted.empty()) events.emplace_back([&] { host->run_posted(); });
    if (!host->elsewhere.empty()) events.emplace_back([&] { host->run_elsewhere(); });
    if (!host->timers.empty() && one_in(random, 4)) events.emplace_back([&] { host->pass_time(); });
    if (!state->done()) {
      if (one_in(random, 6)) events.emplace_back([&] { stop(); });
      if (one_in(random, 12)) events.emplace_back([&] { host->freed.insert(0); });
      if (one_in(random, 12)) events.emplace_back([&] { host->alive = Status(Code::kPeerGone, "its process ended"); });
      if (one_in(random, 12)) events.emplace_back([&] { host->up = Status(Code::kPeerGone, "lost"); });
    }
    if (events.empty()) return false;
    events[random() % events.size()]();
    return true;
  }

  void expect_sound(bool callers_memory, std::uint64_t bytes) {
    EXPECT_LE(ends, 1);
    if (may_write()) {
      EXPECT_FALSE(memory.expired()) << "memory that something may write to was given back";
    }
    if (!state->done()) return;
    EXPECT_EQ(host->quarantined(), may_write() ? bytes : 0u);
    if (may_write()) {
      EXPECT_FALSE(state->result().is_ok());
      EXPECT_EQ(state->result().message().find("may still be written") != std::string::npos, callers_memory);
    } else {
      EXPECT_TRUE(memory.expired()) << "something keeps the memory of a transfer that has ended";
    }
  }
};

TEST_F(FlightRounds, end_once_and_leave_nothing_whatever_the_order) {
  for (unsigned seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const TestHost::Kinds kinds{one_in(random, 2), !one_in(random, 3)};
    host = std::make_shared<TestHost>(kinds);
    host->is_loop = one_in(random, 2);
    ends = 0;
    handed_over = false;
    deadline = Deadline::in(one_in(random, 4) ? std::chrono::hours(0) : std::chrono::hours(1));
    const bool callers_memory = one_in(random, 2);
    std::vector<std::uint32_t> pieces(one_in(random, 8) ? transport::kFewPieces + 1 : random() % 3, 0);
    for (auto& piece : pieces) piece = random() % 2;
    auto plan = make_plan(2, pieces, callers_memory);
    const std::uint64_t bytes = plan->bytes;
    start(std::move(plan));
    expect_sound(callers_memory, bytes);
    while (step(random)) expect_sound(callers_memory, bytes);
    host->run_posted();
    ASSERT_TRUE(state->done());
    ASSERT_EQ(ends, 1);
    if (state->result().is_ok()) {
      EXPECT_TRUE(host->alive.is_ok());
      EXPECT_TRUE(!kinds.shows_generations || host->freed.empty());
    }
    EXPECT_TRUE(host->timers.empty());
    expect_left_nothing();
    if (HasFailure()) return;
  }
}

// ---- Channels of device memory that find out that they cannot.

class FlightToDevice : public FlightTest, public testing::WithParamInterface<Code> {
 protected:
  FlightToDevice() {
    host = std::make_shared<TestHost>(TestHost::Kinds{});
    const auto plan = make_plan(1, {0, 0}, false);
    plan->places = {{0, 1, 1}};
    for (transport::Piece& piece : plan->pieces) piece.place = 0;
    start(plan);
  }
  const Status failure{GetParam(), "HIXL does not link them"};
};

TEST_P(FlightToDevice, gives_the_next_channel_the_job_of_one_that_cannot) {
  end_job(2, failure);
  EXPECT_FALSE(state->done());
  ASSERT_EQ(host->channels[3]->jobs.size(), 1u);
  EXPECT_EQ(host->channels[3]->jobs.front()->pieces().size(), 2u);
  end_job(3);
  expect_ended(Code::kOk);
}

TEST_P(FlightToDevice, ends_with_what_the_last_channel_says) {
  end_job(2, failure);
  end_job(3, failure);
  expect_ended(GetParam());
}

TEST_P(FlightToDevice, hands_nothing_over_once_it_is_to_stop) {
  stop();
  end_job(2, failure);
  EXPECT_TRUE(host->channels[3]->jobs.empty());
  expect_ended(Code::kCancelled);
}

TEST_P(FlightToDevice, stops_the_channel_that_has_the_job_now) {
  end_job(2, failure);
  stop();
  EXPECT_EQ(host->channels[3]->heeded, 1);
  end_job(3, Status(Code::kCancelled, "cancelled"));
  expect_ended(Code::kCancelled);
}

INSTANTIATE_TEST_SUITE_P(After, FlightToDevice, testing::Values(Code::kNotAvailable, Code::kConnectError),
                         [](const auto& code) { return std::string(code_name(code.param)); });

TEST_F(FlightTest, what_failed_otherwise_is_not_handed_over) {
  host = std::make_shared<TestHost>(TestHost::Kinds{});
  const auto plan = make_plan(1, {0}, false);
  plan->places = {{0, 1, 1}};
  plan->pieces.front().place = 0;
  start(plan);
  end_job(2, Status(Code::kPeerGone, "gone"));
  EXPECT_TRUE(host->channels[3]->jobs.empty());
  expect_ended(Code::kPeerGone);
}

// ---- Host memory that only its owner reads.

TEST_F(FlightTest, what_the_kernel_does_not_read_its_owner_sends_from_then_on) {
  host = std::make_shared<TestHost>(kByAddress);
  const auto plan = make_plan(2, {0, 1}, true);
  start(plan);
  resolve(0);
  resolve(1, {{5000, kPieceBytes}});
  end_unreadable(5000 + kPieceBytes - 1);
  ASSERT_THAT(host->channels[4]->jobs, SizeIs(1));
  EXPECT_THAT(host->channels[4]->jobs[0]->pieces(), SizeIs(2));
  end_job(4);
  expect_ended(Code::kOk);
  start(plan);
  ASSERT_THAT(host->channels[4]->jobs, SizeIs(1));
  ASSERT_THAT(host->channels[0]->jobs, SizeIs(1)) << "of the other source nothing is known";
  EXPECT_EQ(host->channels[0]->jobs[0]->pieces().at(0).source, 0u);
  EXPECT_EQ(host->channels[4]->jobs[0]->pieces().at(0).source, 1u);
  end_job(0);
  end_job(4);
  EXPECT_THAT(state->result().code(), Code::kOk);
}

TEST_F(FlightTest, what_the_kernel_does_not_read_fails_where_its_owner_may_not_send_it) {
  host = std::make_shared<TestHost>(kByAddress);
  host->channels[4]->reads.clear();
  start(kByAddress, Memory::kCallers);
  resolve(0);
  end_unreadable(1000);
  expect_ended(Code::kInvalidRegion);
  expect_left_nothing();
}

TEST_F(FlightTest, what_its_owner_does_not_read_either_fails) {
  start(kByAddress, Memory::kCallers);
  resolve(0);
  end_unreadable(1000);
  end_job(4, Status(Code::kInvalidRegion, "the owner says so"));
  expect_ended(Code::kInvalidRegion);
  EXPECT_THAT(state->result().message(), HasSubstr("the owner says so"));
}

// ---- Pinned memory, which HIXL moves, as long as it links.

class FlightOfPinned : public FlightTest {
 protected:
  static constexpr transport::DevicePlace kHosts{-1, -1, 0, false, 0};
  static constexpr transport::DevicePlace kAcross{0, -1, 0, true, 0};
  static constexpr transport::DevicePlace kDevices{0, 1, 1};
  // One piece for each place.
  void start(TestHost::Kinds kinds, std::vector<transport::DevicePlace> places) {
    if (!host) host = std::make_shared<TestHost>(kinds);
    const auto plan = make_plan(1, std::vector<std::uint32_t>(places.size(), 0), false);
    for (std::size_t i = 0; i < places.size(); ++i) plan->pieces[i].place = static_cast<std::int32_t>(i);
    plan->places = std::move(places);
    FlightTest::start(plan);
  }
  void without_staged() {
    host = std::make_shared<TestHost>(kByHandle);
    host->channels[3]->reads.clear();
  }
  const Status unlinked{Code::kConnectError, "HIXL does not link them"};
};

TEST_F(FlightOfPinned, goes_as_host_memory_though_nobody_stages) {
  without_staged();
  start(kByHandle, {kHosts});
  end_job(2, unlinked);
  ASSERT_EQ(host->channels[0]->jobs.size(), 1u);
  end_job(0);
  expect_ended(Code::kOk);
  expect_left_nothing();
}

TEST_F(FlightOfPinned, has_its_addresses_for_those_who_read_by_them) {
  start(kByAddress, {kHosts});
  resolve(0, {{1000, 4}, {2000, 6}});
  end_job(2, unlinked);
  ASSERT_EQ(host->channels[0]->jobs.size(), 1u);
  EXPECT_THAT(host->channels[0]->jobs[0]->pieces(), SizeIs(2));
  EXPECT_EQ(host->channels[0]->jobs[0]->pieces().back().address, 2000u);
  end_job(0);
  expect_ended(Code::kOk);
}

TEST_F(FlightOfPinned, is_sent_by_its_owner_where_neither_hixl_nor_the_kernel_reads_it) {
  start(kByAddress, {kHosts});
  resolve(0);
  end_job(2, unlinked);
  end_unreadable(1000);
  ASSERT_THAT(host->channels[4]->jobs, SizeIs(1));
  end_job(4);
  expect_ended(Code::kOk);
}

TEST_F(FlightOfPinned, is_tried_by_hixl_again_only_where_nobody_else_moves_it) {
  host = std::make_shared<TestHost>(kByHandle);
  host->channels[2]->turned_out = {RemoteMemory::kPinned};
  start(kByHandle, {kHosts});
  ASSERT_THAT(host->channels[0]->jobs, SizeIs(1));
  end_job(0);
  expect_ended(Code::kOk);
  ends = 0;
  host->channels[0]->reads.clear();
  host->channels[4]->reads.clear();
  start(kByHandle, {kHosts});
  ASSERT_THAT(host->channels[2]->jobs, SizeIs(1));
  EXPECT_FALSE(host->channels[2]->jobs[0]->share->hosts_have_another_way);
  end_job(2);
  expect_ended(Code::kOk);
}

TEST_F(FlightOfPinned, is_staged_though_that_was_asked_for_before_hixl) {
  host = std::make_shared<TestHost>(kByHandle);
  std::swap(host->channels[2]->reads, host->channels[3]->reads);
  start(kByHandle, {kAcross});
  end_job(3, unlinked);
  ASSERT_THAT(host->channels[2]->jobs, SizeIs(1));
  end_job(2);
  expect_ended(Code::kOk);
}

TEST_F(FlightOfPinned, goes_each_its_own_way_and_ends_with_the_last) {
  start(kByHandle, {kHosts, kAcross, kDevices});
  ASSERT_EQ(host->jobs(), 1u);
  end_job(2, unlinked);
  ASSERT_EQ(host->channels[0]->jobs.size(), 1u);
  ASSERT_EQ(host->channels[3]->jobs.size(), 1u);
  EXPECT_THAT(host->channels[3]->jobs[0]->pieces(), SizeIs(2));
  end_job(0);
  EXPECT_FALSE(state->done());
  end_job(3, unlinked);
  expect_ended(Code::kConnectError);
  expect_left_nothing();
}

TEST_F(FlightOfPinned, is_not_handed_over_where_a_part_has_no_other_way) {
  for (const auto& other : {kAcross, kDevices}) {
    ends = 0;
    without_staged();
    start(kByHandle, {kHosts, other});
    EXPECT_FALSE(host->channels[2]->jobs.at(0)->share->has_another_way);
    end_job(2, unlinked);
    expect_ended(Code::kConnectError);
  }
}

TEST_F(FlightOfPinned, goes_where_it_was_to_go_though_others_found_out_meanwhile) {
  without_staged();
  host->is_loop = true;
  const auto plan = make_plan(1, std::vector<std::uint32_t>(transport::kFewPieces + 1, 0), false);
  plan->places = {kAcross};
  for (transport::Piece& piece : plan->pieces) piece.place = 0;
  FlightTest::start(plan);
  host->channels[2]->turned_out = {RemoteMemory::kPinned};
  host->run_elsewhere();
  ASSERT_EQ(host->jobs(), 1u);
  end_job(2);
  expect_ended(Code::kOk);
}

}  // namespace
}  // namespace ray_hixl::link
