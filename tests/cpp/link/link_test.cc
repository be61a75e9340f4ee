// A link with a peer that the test plays: how it comes up, what it takes from its peer, how it ends; and when Links replaces or closes it.
#include "link/link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <deque>
#include <optional>
#include <thread>

#include "base/random.h"
#include "link/links.h"
#include "support/eventually.h"
#include "support/on_loop.h"
#include "support/own_context.h"
#include "support/raw_socket.h"

namespace ray_hixl::link {
namespace {

using namespace std::chrono_literals;
using control::Handshake;
using test::eventually;
using test::RawSocket;
using testing::HasSubstr;

// What its channels were given.
struct Held {
  std::deque<std::shared_ptr<transport::Job>> jobs;
  std::function<bool(const transport::Share&)> copy_now = [](const auto&) { return false; };
  bool reads_by_address = false;
};

// Moves nothing: keeps its jobs until the test ends them.
class HeldTransport final : public transport::Transport {
 public:
  explicit HeldTransport(Held& held) : held_(held) {}
  control::TransportKind kind() const override { return control::TransportKind::kStream; }
  bool reads_by_address() const override { return held_.reads_by_address; }
  std::vector<std::byte> describe(const transport::ReaderView&) const override { return {}; }
  Result<std::unique_ptr<transport::Channel>> open(const transport::PeerView&, ByteView, transport::Port&) override {
    return std::unique_ptr<transport::Channel>(std::make_unique<HeldChannel>(held_));
  }
  bool serve(const control::Frame&, transport::Responder&) override { return false; }
  void accept(Fd, std::vector<std::byte>) override {}
  void session_ended(const transport::ReaderView&) override {}
  void shut_down() override {}

 private:
  class HeldChannel final : public transport::Channel {
   public:
    explicit HeldChannel(Held& held) : held_(held) {}
    Status can_read(transport::RemoteMemory) const override { return Status::ok(); }
    void submit(std::shared_ptr<transport::Job> job) override { held_.jobs.push_back(std::move(job)); }
    bool copy_now(const transport::Share& share) override { return held_.copy_now(share); }
    void heed_stops() override {}
    void on_notice(const control::Frame&) override {}
    void close(const Status&) override {}

   private:
    Held& held_;
  };

  Held& held_;
};

control::Welcome good_welcome() {
  control::Welcome welcome;
  welcome.pid = static_cast<std::uint32_t>(::getpid());
  welcome.transports = {{control::TransportKind::kStream, {}}};
  return welcome;
}

// What an engine has around its links.
class LinkTest : public testing::Test, protected test::OwnContext {
 protected:
  ~LinkTest() override {
    if (links_) links_->close_all(Status(Code::kClosed, "the test ended"));
    loop->stop();
  }

  void prepare(double idle_timeout_s = 300) {
    options.idle_timeout_s = idle_timeout_s;
    transports.push_back(std::make_unique<HeldTransport>(held));
  }
  // The links of this engine, made at their first use.
  Links& links() {
    if (!links_) links_ = std::make_unique<Links>(context, transports);
    return *links_;
  }

  std::shared_ptr<transport::TransferState> submit(Link& link) {
    auto plan = std::make_shared<transport::Plan>();
    plan->sources = {{1, 1, 1}};
    plan->pieces = {{&byte, 0, 1, 0, 0, -1}};
    plan->bytes = 1;
    auto state = std::make_shared<transport::TransferState>(Deadline::in(20s));
    return link.submit(std::move(plan), state) ? state : nullptr;
  }

  std::byte byte{};
  Held held;
  std::deque<std::shared_ptr<transport::Job>>& jobs = held.jobs;
  std::vector<std::unique_ptr<transport::Transport>> transports;
  std::unique_ptr<Links> links_;
};

// One link over a pair of sockets; `peer` is the far end.
class OneLink : public LinkTest {
 protected:
  ~OneLink() override {
    if (link) test::on_loop(*loop, [this] { link.reset(); });  // with its connection
  }
  void start() {
    prepare();
    std::array<int, 2> pair{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair.data()), 0);
    peer.emplace(Fd(pair[1]));
    test::on_loop(*loop, [&] {
      Dialed dialed;
      dialed.socket = Fd(pair[0]);
      dialed.over_unix_socket = true;
      Link::Callbacks callbacks;
      callbacks.ready = [this](const Status& status) { ready.set_value(status); };
      callbacks.gone = [this] { ++gone; };
      link = Link::start(context, transports, {}, std::move(dialed), std::move(callbacks));
    });
  }
  void bring_up() {
    start();
    EXPECT_TRUE(peer->send(control::encode(0, good_welcome())));
    EXPECT_TRUE(ready.get_future().get().is_ok());
  }
  // How it ended, while it was coming up.
  Status outcome() { return ready.get_future().get(); }
  [[nodiscard]] bool goes_down() {
    return eventually([&] { return gone == 1; }) && !link->state().is_ok();
  }

  std::optional<RawSocket> peer;
  std::promise<Status> ready;
  std::atomic<int> gone{0};
  std::shared_ptr<Link> link;
};

TEST_F(OneLink, comes_up_with_the_welcome) {
  bring_up();
  EXPECT_TRUE(link->state().is_ok());
  EXPECT_EQ(link->peer().welcome.pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(counters.links, 1u);
}

TEST_F(OneLink, sees_that_the_peers_engine_ended_before_the_connection_tells) {
  start();
  control::Welcome welcome = good_welcome();
  welcome.has_generations = true;
  ASSERT_TRUE(peer->send_with(control::encode(0, welcome), slots->generations()));
  ASSERT_TRUE(outcome().is_ok());
  EXPECT_TRUE(link->check_alive().is_ok());
  slots->end();
  EXPECT_EQ(link->check_alive().code(), Code::kPeerGone);
  EXPECT_TRUE(link->state().is_ok());
}

// Little, right here.
class CopyNow : public OneLink {
 protected:
  void SetUp() override { come_up(); }
  void come_up() {
    start();
    control::Welcome welcome = good_welcome();
    welcome.has_generations = true;
    ASSERT_TRUE(peer->send_with(control::encode(0, welcome), slots->generations()));
    ASSERT_TRUE(outcome().is_ok());
    memory::SlotContent content;
    content.ranges = {{&byte, 1}};
    source = slots->publish(std::move(content)).value();
    plan->sources = {source};
    plan->pieces = {{&byte, 0, 1, 0, 0, -1}};
    plan->bytes = 1;
    held.copy_now = [this](const transport::Share& share) {
      share_of_last = &share;
      return ++copied > 0;
    };
  }
  void read_once() {
    const auto state = std::make_shared<transport::TransferState>(Deadline::in(20s));
    ASSERT_TRUE(link->submit(plan, state));
    ASSERT_EQ(jobs.size(), 1u);
    jobs.front()->end(Status::ok());
    jobs.clear();
    ASSERT_TRUE(state->result().is_ok()) << state->result().to_string();
  }
  bool copy_now() {
    transport::TransferState state(Deadline::in(20s));
    return link->copy_now(*plan, state);
  }

  Handle source;
  const std::shared_ptr<transport::Plan> plan = std::make_shared<transport::Plan>();
  int copied = 0;
  const transport::Share* share_of_last = nullptr;
};

TEST_F(CopyNow, is_for_what_nobody_has_to_be_asked_for) {
  EXPECT_TRUE(copy_now());
  read_once();
  EXPECT_TRUE(copy_now());
  EXPECT_EQ(copied, 2);
  EXPECT_TRUE(jobs.empty());
}

class CopyNowByAddress : public CopyNow {
 protected:
  void SetUp() override {
    held.reads_by_address = true;
    come_up();
  }
};

TEST_F(CopyNowByAddress, is_not_for_what_lies_nobody_knows_where) {
  EXPECT_FALSE(copy_now());
  EXPECT_EQ(copied, 0);
}

TEST_F(CopyNow, is_not_for_memory_of_devices) {
  plan->places.push_back({});
  plan->pieces[0].place = 0;
  EXPECT_FALSE(copy_now());
  EXPECT_EQ(copied, 0);
}

TEST_F(CopyNow, is_not_for_much) {
  plan->bytes = (std::uint64_t{1} << 20) + 1;
  read_once();
  EXPECT_FALSE(copy_now());
  EXPECT_EQ(copied, 0);
}

TEST_F(CopyNow, is_not_for_a_channel_that_has_to_ask) {
  held.copy_now = [](const auto&) { return false; };
  read_once();
  EXPECT_FALSE(copy_now());
}

TEST_F(CopyNow, copies_nothing_of_what_was_closed) {
  read_once();
  ASSERT_TRUE(slots->retire(source));
  EXPECT_FALSE(copy_now());
  EXPECT_EQ(copied, 0);
}

TEST_F(CopyNow, tells_of_nothing_that_was_closed_meanwhile) {
  read_once();
  held.copy_now = [this](const auto&) { return slots->retire(source); };
  EXPECT_FALSE(copy_now());
}

TEST_F(CopyNow, tells_of_nothing_whose_owner_ended_meanwhile) {
  read_once();
  plan->sources.clear();
  held.copy_now = [this](const auto&) {
    slots->end();
    return true;
  };
  EXPECT_FALSE(copy_now());
}

TEST_F(CopyNow, is_not_for_a_link_that_is_not_used_any_more) {
  read_once();
  link->retire();
  EXPECT_FALSE(copy_now());
  EXPECT_EQ(copied, 0);
}

TEST_F(CopyNow, is_not_by_the_split_of_another_link) {
  const auto others = std::make_shared<const transport::Share>();
  plan->kept.set(std::make_shared<const Known>(Known{nullptr, link->paths().id() + 1, {others}}));
  EXPECT_TRUE(copy_now());
  EXPECT_NE(share_of_last, others.get());
}

TEST_F(CopyNow, is_not_for_what_several_channels_read) {
  const auto share = std::make_shared<const transport::Share>();
  plan->kept.set(std::make_shared<const Known>(Known{nullptr, link->paths().id(), {share, share}}));
  EXPECT_FALSE(copy_now());
  EXPECT_EQ(copied, 0);
}

TEST_F(CopyNow, is_not_for_a_link_that_is_down) {
  read_once();
  link->close(Status(Code::kPeerGone, "lost"));
  ASSERT_TRUE(goes_down());
  EXPECT_FALSE(copy_now());
  EXPECT_EQ(copied, 0);
}

TEST_F(CopyNow, counts_what_was_brought_and_nothing_else) {
  const auto kind = static_cast<std::size_t>(control::TransportKind::kStream);
  EXPECT_TRUE(copy_now());
  EXPECT_EQ(counters.fetched[kind], 1u);
  held.copy_now = [this](const auto&) { return slots->retire(source); };
  EXPECT_FALSE(copy_now());
  EXPECT_EQ(counters.fetched[kind], 1u);
}

TEST_F(CopyNow, keeps_no_link_from_being_retired) {
  read_once();
  EXPECT_TRUE(copy_now());
  link->retire();
  EXPECT_TRUE(eventually([this] { return gone == 1; }));
}

TEST_F(OneLink, is_refused_a_malformed_welcome) {
  start();
  std::vector<std::byte> welcome = control::encode(0, good_welcome());
  welcome.back() ^= std::byte{0xff};  // the length of the last details
  EXPECT_TRUE(peer->send(welcome));
  EXPECT_EQ(outcome().code(), Code::kPeerGone);
  EXPECT_EQ(counters.links, 0u);
  EXPECT_EQ(gone, 0);
}

TEST_F(OneLink, is_refused_a_welcome_without_the_table_that_it_names) {
  start();
  control::Welcome welcome = good_welcome();
  welcome.has_generations = true;
  EXPECT_TRUE(peer->send(control::encode(0, welcome)));
  EXPECT_FALSE(outcome().is_ok());
}

TEST_F(OneLink, hears_nothing_before_the_welcome) {
  start();
  EXPECT_TRUE(peer->send(control::encode(7, control::Resolved{})));
  EXPECT_THAT(outcome().message(), HasSubstr("before its welcome"));
}

TEST_F(OneLink, does_not_come_up_if_the_peer_hangs_up_first) {
  start();
  peer->hang_up();
  EXPECT_EQ(outcome().code(), Code::kPeerGone);
}

TEST_F(OneLink, may_be_closed_while_it_comes_up) {
  start();
  link->close(Status(Code::kClosed, "enough"));
  EXPECT_EQ(outcome().code(), Code::kClosed);
  EXPECT_TRUE(peer->is_hung_up());
}

TEST_F(OneLink, is_lost_by_a_second_welcome) {
  bring_up();
  EXPECT_TRUE(peer->send(control::encode(0, good_welcome())));
  EXPECT_TRUE(goes_down());
  EXPECT_EQ(counters.links, 0u);
  EXPECT_EQ(counters.links_lost, 1u);
}

TEST_F(OneLink, ignores_an_answer_that_nobody_waits_for) {
  bring_up();
  EXPECT_TRUE(peer->send(control::encode(77, control::Resolved{})));
  std::promise<Result<transport::Reply>> answered;
  link->request([](std::uint64_t id) { return control::encode(id, control::MapSegment{5}); },
                [&](Result<transport::Reply> reply) { answered.set_value(std::move(reply)); });
  const auto request = peer->message();
  ASSERT_TRUE(request);
  EXPECT_TRUE(peer->send(control::encode(request->request, control::Failure{Status(Code::kInvalidRegion, "gone")})));
  EXPECT_EQ(answered.get_future().get().status().code(), Code::kInvalidRegion);
  EXPECT_TRUE(link->state().is_ok());
}

TEST_F(OneLink, answers_whoever_waits_when_it_goes_down) {
  bring_up();
  std::vector<std::promise<Status>> waiting(3);
  const auto ask = [&](std::promise<Status>& promise) {
    link->request([](std::uint64_t id) { return control::encode(id, control::MapSegment{5}); },
                  [&](const Result<transport::Reply>& reply) { promise.set_value(reply.status()); });
  };
  ask(waiting[0]);
  ask(waiting[1]);
  ASSERT_TRUE(peer->message());
  ASSERT_TRUE(peer->message());
  peer->hang_up();
  EXPECT_TRUE(goes_down());
  ask(waiting[2]);  // later ones, too
  for (auto& promise : waiting) EXPECT_EQ(promise.get_future().get().code(), Code::kPeerGone);
}

TEST_F(OneLink, answers_who_asks_when_it_is_down_and_its_loop_has_ended) {
  bring_up();
  link->close(Status(Code::kClosed, "enough"));
  EXPECT_TRUE(goes_down());
  test::on_loop(*loop, [this] { link->close(Status(Code::kClosed, "again")); });
  const auto kept = link;
  test::on_loop(*loop, [this] { link.reset(); });
  loop->stop();
  int answers = 0;
  kept->request([](std::uint64_t id) { return control::encode(id, control::MapSegment{5}); },
                [&](const Result<transport::Reply>& reply) {
                  EXPECT_EQ(reply.status().code(), Code::kClosed);
                  ++answers;
                });
  EXPECT_EQ(answers, 1);
}

TEST_F(OneLink, is_down_once_whoever_says_so) {
  bring_up();
  link->close(Status(Code::kClosed, "enough"));
  link->close(Status(Code::kPeerGone, "too late"));
  test::on_loop(*loop, [] {});  // or it might hear of the peer's end first
  peer->hang_up();
  EXPECT_TRUE(goes_down());
  test::on_loop(*loop, [] {});
  EXPECT_EQ(gone, 1);
  EXPECT_EQ(link->state().code(), Code::kClosed);
  EXPECT_EQ(counters.links_lost, 0u);
}

TEST_F(OneLink, carries_to_the_end_what_it_carries_when_it_is_retired) {
  bring_up();
  const auto state = submit(*link);
  ASSERT_TRUE(state);
  link->retire();
  EXPECT_TRUE(link->is_retired());
  EXPECT_FALSE(submit(*link));
  test::on_loop(*loop, [] {});
  EXPECT_TRUE(link->state().is_ok());
  ASSERT_EQ(jobs.size(), 1u);
  std::exchange(jobs, {}).front()->end(Status::ok());
  EXPECT_TRUE(goes_down());
  EXPECT_TRUE(peer->is_hung_up());
  EXPECT_EQ(link->state().code(), Code::kClosed);
}

// An engine that the test plays, at both kinds of address.
class ScriptedOwner {
 public:
  ScriptedOwner() : tcp_(std::move(net::listen_tcp("127.0.0.1")).value()) {
    const net::HostIdentity here = net::this_process().value();
    fill_random(descriptor.incarnation);
    fill_random(descriptor.key);
    descriptor.boot_id = here.boot_id;
    descriptor.network_namespace = here.network_namespace;
    descriptor.unix_name = "ray-hixl-test-" + std::to_string(random_u64());
    descriptor.tcp_host = "127.0.0.1";
    descriptor.tcp_port = net::local_port(tcp_).value();
  }
  void listen_at_unix_socket() { unix_ = net::listen_unix(descriptor.unix_name).value(); }
  // Takes the next control connection.
  std::unique_ptr<RawSocket> serve_tcp() const { return serve(tcp_); }
  std::unique_ptr<RawSocket> serve_unix() const { return serve(unix_); }

  control::EngineDescriptor descriptor;

 private:
  [[nodiscard]] std::unique_ptr<RawSocket> serve(const Fd& listener) const {
    pollfd waiting{listener.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&waiting, 1, 20000), 1);
    auto socket = std::make_unique<RawSocket>(*std::move(*net::accept_connection(listener)));
    EXPECT_TRUE(socket->shake_hands(Handshake::server(descriptor.incarnation, descriptor.key)));
    EXPECT_TRUE(socket->send(control::encode(0, good_welcome())));
    return socket;
  }

  const Fd tcp_;
  Fd unix_;
};

class LinksTest : public LinkTest {
 protected:
  std::future<Result<std::shared_ptr<Link>>> open() {
    auto promise = std::make_shared<std::promise<Result<std::shared_ptr<Link>>>>();
    links().open(owner.descriptor, Deadline::in(10s),
                 [promise](Result<std::shared_ptr<Link>> link) { promise->set_value(std::move(link)); });
    return promise->get_future();
  }
  [[nodiscard]] std::shared_ptr<Link> current() { return links().find(owner.descriptor).value(); }
  void use(Link& link) {
    if (link.memory_of({}, [](const Result<transport::RemoteMemory>&) {})) ++uses;
  }

  ScriptedOwner owner;
  int uses = 0;
};

TEST_F(LinksTest, replace_a_link_over_tcp_once_the_unix_socket_can_be_reached) {
  prepare();
  auto opening = open();
  const auto over_tcp = owner.serve_tcp();
  const std::shared_ptr<Link> worse = opening.get().value();
  EXPECT_FALSE(worse->peer().over_unix_socket);
  const auto transfer = submit(*worse);
  owner.listen_at_unix_socket();
  std::unique_ptr<RawSocket> over_unix;
  std::thread serving([&] { over_unix = owner.serve_unix(); });
  EXPECT_TRUE(eventually(
      [&] {
        use(*worse);
        return current() != worse;
      },
      20s));
  serving.join();
  EXPECT_TRUE(current()->peer().over_unix_socket);
  EXPECT_TRUE(worse->is_retired());
  EXPECT_TRUE(worse->state().is_ok()) << "the transfer that it carries ends on it";
  std::exchange(jobs, {}).front()->end(Status::ok());
  EXPECT_TRUE(transfer->wait(10s));
  EXPECT_TRUE(over_tcp->is_hung_up());
  EXPECT_EQ(counters.links_lost, 0u);
  EXPECT_TRUE(eventually([&] { return counters.links == 1; }));
}

TEST_F(LinksTest, keep_a_worse_link_while_there_is_no_better_one) {
  prepare();
  auto opening = open();
  const auto over_tcp = owner.serve_tcp();
  const std::shared_ptr<Link> worse = opening.get().value();
  // Longer than until the first attempt, which finds nobody.
  const Deadline end = Deadline::in(1500ms);
  while (!end.passed()) {
    use(*worse);
    std::this_thread::sleep_for(1ms);
  }
  EXPECT_EQ(current(), worse);
  EXPECT_FALSE(worse->is_retired());
}

TEST_F(LinksTest, close_one_that_nobody_uses) {
  prepare(0.2);
  auto opening = open();
  const auto first = owner.serve_tcp();
  const std::shared_ptr<Link> idle = opening.get().value();
  EXPECT_TRUE(eventually([&] { return counters.links == 0; }));
  EXPECT_TRUE(first->is_hung_up());
  EXPECT_TRUE(idle->is_retired());
  EXPECT_EQ(idle->state().code(), Code::kClosed);
  EXPECT_EQ(counters.links_lost, 0u);
  EXPECT_FALSE(submit(*idle));
  EXPECT_EQ(current(), nullptr);
  auto again = open();
  const auto second = owner.serve_tcp();
  EXPECT_TRUE(again.get().is_ok());
}

TEST_F(LinksTest, close_none_that_carries_a_transfer) {
  prepare(0.2);
  auto opening = open();
  const auto first = owner.serve_tcp();
  const std::shared_ptr<Link> used = opening.get().value();
  const auto transfer = submit(*used);
  // Links that are opened later, the second one when that transfer has long begun, are closed: so that one would have been, too.
  for (int i = 0; i < 2; ++i) {
    ScriptedOwner other;
    links().open(other.descriptor, Deadline::in(10s), [](const Result<std::shared_ptr<Link>>&) {});
    EXPECT_TRUE(other.serve_tcp()->is_hung_up());
  }
  EXPECT_TRUE(used->state().is_ok());
  EXPECT_FALSE(used->is_retired());
  std::exchange(jobs, {}).front()->end(Status::ok());
  EXPECT_TRUE(first->is_hung_up());
}

}  // namespace
}  // namespace ray_hixl::link
