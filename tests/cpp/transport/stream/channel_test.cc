#include "transport/stream/channel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <deque>
#include <mutex>

#include "support/event.h"
#include "support/eventually.h"
#include "support/own_context.h"
#include "support/raw_socket.h"
#include "support/shares.h"

namespace ray_hixl::transport::stream {
namespace {

using test::Event;
using test::RawSocket;

// Opens one end of a socket pair; the test has the other one, and is the owner.
class PairPort final : public Port {
 public:
  explicit PairPort(net::Loop& loop) : loop_(loop) {}
  void request(std::function<std::vector<std::byte>(std::uint64_t)>, std::function<void(Result<Reply>)>) override {
    FAIL() << "streams ask on connections of their own";
  }
  void open_connection(control::TransportKind, Deadline, std::function<void(Result<Fd>)> opened) override {
    std::array<int, 2> ends{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()), 0);
    loop_.post([opened = std::move(opened), fd = ends[0]] { opened(Fd(fd)); });
    const std::lock_guard lock(mutex_);
    owners_.emplace_back(Fd(ends[1]));
  }
  [[nodiscard]] bool is_live(const Handle&) const override { return true; }
  [[nodiscard]] std::size_t connections() const {
    const std::lock_guard lock(mutex_);
    return owners_.size();
  }
  RawSocket& owner(std::size_t number) {
    const std::lock_guard lock(mutex_);
    return owners_.at(number);
  }

 private:
  net::Loop& loop_;
  mutable std::mutex mutex_;
  std::deque<RawSocket> owners_;  // which stay where they are
};

class StreamChannelTest : public testing::Test {
 protected:
  // A read into all of `into`, and how it ended.
  struct Read {
    std::vector<std::byte> into = std::vector<std::byte>(kBytes);
    std::shared_ptr<TransferState> transfer = std::make_shared<TransferState>(Deadline::never());
    Event ended;
    Status result;
  };
  // What the test leaves under way ends while it is still there.
  void TearDown() override {
    channel.close(Status(Code::kClosed, "the test is over"));
    test::on_loop(*own.loop, [] {});
  }
  // In so many pieces, which lie apart at the owner.
  std::unique_ptr<Read> submit(std::uint64_t pieces = 1, StreamChannel* by = nullptr,
                               std::unique_ptr<Read> read = std::make_unique<Read>()) {
    auto plan = std::make_shared<Plan>();
    plan->sources = {Handle{1, 2, 3}};
    plan->bytes = kBytes;
    const std::uint64_t length = kBytes / pieces;
    for (std::uint64_t i = 0; i < pieces; ++i) plan->pieces.push_back({read->into.data() + i * length, 2 * i * length, length});
    auto job = std::make_shared<Job>();
    job->transfer = read->transfer;
    job->share = test::share_of(plan->pieces);
    job->plan = std::move(plan);
    job->done = [at = read.get()](const Status& status) {
      at->result = status;
      at->ended.set();
    };
    (by == nullptr ? channel : *by).submit(std::move(job));
    return read;
  }
  // The owner's part: takes a request for all bytes of so many reads, and gives each read its value.
  static void answer(RawSocket& owner, const std::vector<std::byte>& values) {
    const std::uint64_t bytes = values.size() * kBytes;
    const std::uint64_t request = take_request(owner, bytes);
    ASSERT_TRUE(owner.send(control::encode(request, control::Reading{bytes})));
    for (const std::byte value : values) ASSERT_TRUE(owner.send(std::vector<std::byte>(kBytes, value)));
    ASSERT_TRUE(owner.send(control::encode(request, control::ReadEnd{})));
  }
  static void answer(RawSocket& owner, std::byte value) { answer(owner, std::vector{value}); }
  static void refuse(RawSocket& owner, std::uint64_t reads) {
    const std::uint64_t request = take_request(owner, reads * kBytes);
    ASSERT_TRUE(owner.send(control::encode(request, control::Failure{Status(Code::kInvalidRegion, "it was closed")})));
  }
  // Its number.
  static std::uint64_t take_request(RawSocket& owner, std::uint64_t bytes) {
    const auto message = owner.message();
    const bool is_read = message && message->type == control::MessageType::kRead;
    EXPECT_TRUE(is_read);
    if (!is_read) return 0;
    std::uint64_t asked = 0;
    const auto read = control::decode_read(message->body);
    for (const control::ReadSpan& span : read->spans) asked += span.length;
    EXPECT_EQ(asked, bytes);
    return message->request;
  }
  RawSocket& owner(std::size_t number) {
    EXPECT_TRUE(test::eventually([&] { return port.connections() > number; }));
    return port.owner(number);
  }
  static void expect_bytes(const Read& read, std::byte value) {
    ASSERT_TRUE(read.ended.wait());
    EXPECT_TRUE(read.result.is_ok()) << read.result.to_string();
    EXPECT_THAT(read.into, testing::Each(value));
  }
  // After this so many connections are idle.
  void read_at_once(std::size_t connections) {
    std::vector<std::unique_ptr<Read>> reads;
    for (std::size_t i = 0; i < connections; ++i) {
      reads.push_back(submit());
      (void)owner(i);
    }
    for (std::size_t i = 0; i < connections; ++i) answer(owner(i), std::byte{1});
    for (const auto& read : reads) expect_bytes(*read, std::byte{1});
  }
  void read_once() { read_at_once(1); }
  // On all four connections; the next one gets none before one of these was answered.
  void keep_busy() {
    for (std::size_t i = 0; i < 4; ++i) {
      busy.push_back(submit());
      EXPECT_TRUE(test::eventually([&] { return owner(i).has_input(); }));
    }
  }
  // Behind those.
  [[nodiscard]] std::vector<std::unique_ptr<Read>> keep_waiting(std::size_t number) {
    std::vector<std::unique_ptr<Read>> reads;
    for (std::size_t i = 0; i < number; ++i) reads.push_back(submit(2));
    test::on_loop(*own.loop, [] {});
    return reads;
  }
  // Until `go_on`, the loop does nothing.
  void hold_loop(const Event& go_on) {
    own.loop->post([&go_on] { EXPECT_TRUE(go_on.wait()); });
  }

  static constexpr std::size_t kBytes = 20000;
  static constexpr std::uint64_t kPiecesOfItsOwn = 1000;  // too many to be asked for with others
  const test::OwnContext own;
  PairPort port{*own.loop};
  std::vector<std::unique_ptr<Read>> busy;
  const Carrier carrier{control::TransportKind::kStream, nullptr, nullptr, nullptr};
  StreamChannel channel{own.context, carrier, port};
};

// An inflow whose room comes when the test says.
class LateInflow final : public Inflow {
 public:
  LateInflow(std::shared_ptr<Job> job, std::function<void()> more) : job_(std::move(job)), more_(std::move(more)) {}
  std::span<std::byte> room() override {
    return has_room_ ? std::span(job_->pieces().front().local, kRoom).subspan(used_) : std::span<std::byte>();
  }
  void received(std::uint64_t bytes) override { used_ += bytes; }
  Status status() const override { return Status::ok(); }
  void end(const Status& status) override { job_->end(status); }
  void give_room() {
    has_room_ = true;
    more_();
  }

 private:
  static constexpr std::size_t kRoom = 20000;
  const std::shared_ptr<Job> job_;
  const std::function<void()> more_;
  std::atomic<bool> has_room_ = false;
  std::size_t used_ = 0;
};

TEST_F(StreamChannelTest, asks_nobody_before_its_inflow_has_room) {
  std::shared_ptr<LateInflow> inflow;
  Event opened;
  const Carrier late{control::TransportKind::kStaged, nullptr, nullptr, [&](const std::shared_ptr<Job>& job, std::function<void()> more) {
                       inflow = std::make_shared<LateInflow>(job, std::move(more));
                       opened.set();
                       return inflow;
                     }};
  StreamChannel staged(own.context, late, port);
  const auto read = submit(1, &staged);
  ASSERT_TRUE(opened.wait());
  test::on_loop(*own.loop, [] {});
  EXPECT_FALSE(owner(0).has_input());
  inflow->give_room();
  answer(owner(0), std::byte{4});
  expect_bytes(*read, std::byte{4});
  test::on_loop(*own.loop, [&] { inflow.reset(); });
}

TEST_F(StreamChannelTest, a_second_read_at_once_has_a_connection_of_its_own) {
  read_once();
  const auto second = submit();
  const auto third = submit();
  answer(owner(1), std::byte{3});
  expect_bytes(*third, std::byte{3});
  answer(owner(0), std::byte{2});
  expect_bytes(*second, std::byte{2});
}

TEST_F(StreamChannelTest, a_request_that_the_connection_does_not_take_at_once_is_finished) {
  read_once();
  const auto read = submit(kBytes);  // some hundred KiB of request
  answer(owner(0), std::byte{2});
  expect_bytes(*read, std::byte{2});
  EXPECT_EQ(port.connections(), 1u);
}

TEST_F(StreamChannelTest, has_four_connections_at_most_which_serve_in_the_order_of_asking) {
  keep_busy();
  const auto big = submit(kPiecesOfItsOwn);
  const auto last = submit();
  test::on_loop(*own.loop, [] {});
  answer(owner(0), std::byte{1});
  answer(owner(0), std::byte{2});
  expect_bytes(*big, std::byte{2});
  answer(owner(0), std::byte{3});
  expect_bytes(*last, std::byte{3});
  for (std::size_t i = 1; i < 4; ++i) answer(owner(i), std::byte{1});
  for (const auto& read : busy) expect_bytes(*read, std::byte{1});
  EXPECT_EQ(port.connections(), 4u);
}

TEST_F(StreamChannelTest, small_reads_that_wait_are_one_request) {
  keep_busy();
  const auto reads = keep_waiting(3);
  answer(owner(0), std::byte{1});
  answer(owner(0), {std::byte{2}, std::byte{3}, std::byte{4}});
  for (std::size_t i = 0; i < 3; ++i) {
    expect_bytes(*reads[i], static_cast<std::byte>(2 + i));
    EXPECT_EQ(reads[i]->transfer->bytes_by_transport().at(0).bytes, kBytes);
  }
  EXPECT_EQ(own.counters.fetched[static_cast<std::size_t>(control::TransportKind::kStream)], 4 * kBytes);
}

TEST_F(StreamChannelTest, one_request_asks_for_as_much_as_one_call_receives) {
  keep_busy();
  const auto reads = keep_waiting(30);
  answer(owner(0), std::byte{1});
  answer(owner(0), std::vector(26, std::byte{2}));  // 512 KiB
  answer(owner(0), std::vector(4, std::byte{3}));
  for (std::size_t i = 0; i < 30; ++i) expect_bytes(*reads[i], static_cast<std::byte>(i < 26 ? 2 : 3));
}

TEST_F(StreamChannelTest, what_one_of_several_is_refused_for_is_not_the_others_fault) {
  keep_busy();
  const auto reads = keep_waiting(3);
  answer(owner(0), std::byte{1});
  refuse(owner(0), 3);
  answer(owner(0), std::byte{2});
  refuse(owner(0), 1);
  answer(owner(0), std::byte{3});
  expect_bytes(*reads[0], std::byte{2});
  ASSERT_TRUE(reads[1]->ended.wait());
  EXPECT_EQ(reads[1]->result.code(), Code::kInvalidRegion);
  expect_bytes(*reads[2], std::byte{3});
}

TEST_F(StreamChannelTest, a_stop_of_one_of_several_costs_the_others_a_connection) {
  keep_busy();
  const auto reads = keep_waiting(3);
  answer(owner(0), std::byte{1});
  (void)take_request(owner(0), 3 * kBytes);
  reads[1]->transfer->request_stop(Status(Code::kCancelled, "enough"));
  channel.heed_stops();
  ASSERT_TRUE(reads[1]->ended.wait());
  EXPECT_EQ(reads[1]->result.code(), Code::kCancelled);
  EXPECT_TRUE(owner(0).is_hung_up());
  answer(owner(4), std::byte{2});
  expect_bytes(*reads[0], std::byte{2});
  answer(owner(4), std::byte{3});
  expect_bytes(*reads[2], std::byte{3});
}

TEST_F(StreamChannelTest, who_hangs_up_in_the_middle_fails_all_of_several) {
  keep_busy();
  const auto reads = keep_waiting(2);
  answer(owner(0), std::byte{1});
  const std::uint64_t request = take_request(owner(0), 2 * kBytes);
  ASSERT_TRUE(owner(0).send(control::encode(request, control::Reading{2 * kBytes})));
  owner(0).hang_up();
  for (const auto& read : reads) {
    ASSERT_TRUE(read->ended.wait());
    EXPECT_EQ(read->result.code(), Code::kPeerGone);
  }
}

TEST_F(StreamChannelTest, several_whose_connection_was_closed_while_it_was_idle_are_asked_for_again) {
  keep_busy();
  const auto reads = keep_waiting(2);
  answer(owner(0), std::byte{1});
  (void)take_request(owner(0), 2 * kBytes);
  owner(0).hang_up();
  answer(owner(4), {std::byte{2}, std::byte{3}});
  for (std::size_t i = 0; i < 2; ++i) expect_bytes(*reads[i], static_cast<std::byte>(2 + i));
}

TEST_F(StreamChannelTest, connections_that_the_owner_closed_while_they_were_idle_cost_nothing) {
  read_at_once(4);
  for (std::size_t i = 0; i < 4; ++i) owner(i).hang_up();
  const auto read = submit();
  answer(owner(4), std::byte{2});
  expect_bytes(*read, std::byte{2});
}

TEST_F(StreamChannelTest, a_connection_that_breaks_after_the_request_costs_nothing) {
  read_once();
  const auto read = submit();
  ASSERT_TRUE(owner(0).message());
  owner(0).hang_up();
  answer(owner(1), std::byte{2});
  expect_bytes(*read, std::byte{2});
}

TEST_F(StreamChannelTest, a_refusal_leaves_the_connection_usable_unless_more_comes_with_it) {
  const std::vector<std::byte> refusal = control::encode(1, control::Failure{Status(Code::kInvalidRegion, "it was closed")});
  for (const std::size_t more : {0U, 1U}) {
    const auto read = submit();
    ASSERT_TRUE(owner(0).message());
    std::vector<std::byte> sent = refusal;
    sent.resize(sent.size() + more);
    ASSERT_TRUE(owner(0).send(sent));
    ASSERT_TRUE(read->ended.wait());
    EXPECT_EQ(read->result.code(), Code::kInvalidRegion);
  }
  EXPECT_TRUE(owner(0).is_hung_up());
  const auto read = submit();
  answer(owner(1), std::byte{2});
  expect_bytes(*read, std::byte{2});
}

TEST_F(StreamChannelTest, closing_hangs_up_and_ends_reads_with_the_reason) {
  read_at_once(2);
  Event go_on;
  hold_loop(go_on);
  channel.close(Status(Code::kClosed, "the link went down"));
  const auto read = submit();
  go_on.set();
  ASSERT_TRUE(read->ended.wait());
  EXPECT_EQ(read->result.code(), Code::kClosed);
  for (std::size_t i = 0; i < 2; ++i) EXPECT_TRUE(owner(i).is_hung_up());
  const auto after = submit();
  ASSERT_TRUE(after->ended.wait());
  EXPECT_EQ(after->result.code(), Code::kClosed);
}

TEST_F(StreamChannelTest, a_read_that_was_stopped_on_its_way_here_asks_nobody) {
  auto stopped = std::make_unique<Read>();
  stopped->transfer->request_stop(Status(Code::kCancelled, "enough"));
  channel.heed_stops();
  const auto read = submit(1, nullptr, std::move(stopped));
  ASSERT_TRUE(read->ended.wait());
  EXPECT_EQ(read->result.code(), Code::kCancelled);
  EXPECT_EQ(port.connections(), 0u);
}

// Connections that were given up make room for others.
TEST_F(StreamChannelTest, connections_that_are_given_up_are_not_counted) {
  for (std::size_t number = 0; number < 6; ++number) {
    const auto read = submit();
    ASSERT_TRUE(owner(number).message());
    read->transfer->request_stop(Status(Code::kCancelled, "enough"));
    channel.heed_stops();
    ASSERT_TRUE(read->ended.wait());
    EXPECT_EQ(read->result.code(), Code::kCancelled);
  }
}

}  // namespace
}  // namespace ray_hixl::transport::stream
