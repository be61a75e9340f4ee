#include "net/connection.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "support/event.h"
#include "support/eventually.h"
#include "support/on_loop.h"
#include "support/passed_fd.h"
#include "support/pattern.h"

namespace ray_hixl::net {
namespace {

using test::Event;
using test::eventually;
using test::on_loop;
using test::PassedPipe;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::size_t kLongest = 1 << 20;

std::vector<std::byte> to_bytes(std::string_view text) {
  const auto* data = reinterpret_cast<const std::byte*>(text.data());
  return {data, data + text.size()};
}

std::string to_text(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

// A connection on a loop, and the other end of it as a plain blocking socket.
class ConnectionTest : public testing::Test {
 protected:
  ConnectionTest() {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) std::abort();
    near_ = Fd(pair[0]);
    other = Fd(pair[1]);
    ::fcntl(near_.get(), F_SETFL, O_NONBLOCK);
  }
  ~ConnectionTest() override {
    on_loop(*loop, [this] { connection.reset(); });
  }

  void start(Connection::Callbacks callbacks, Connection::Passing passing = Connection::Passing::kRefused) {
    on_loop(*loop, [&] { connection.emplace(*loop, std::move(near_), kLongest, std::move(callbacks), passing); });
  }
  // Takes all there is, and says when it was closed.
  Connection::Callbacks recording() {
    return {[this](std::span<const std::byte> bytes, Arrival arrival) {
              got += to_text(bytes);
              for (Fd& fd : arrival.fds) got_fds.push_back(std::move(fd));
              fds_lost = fds_lost || arrival.fds_lost;
              return bytes.size();
            },
            [this](const Status& why) {
              ended = why;
              closed.set();
            },
            nullptr};
  }
  [[nodiscard]] std::string received() {
    return on_loop(*loop, [this] { return got; });
  }
  void write(std::string_view text) const { ASSERT_EQ(::send(other.get(), text.data(), text.size(), MSG_NOSIGNAL), std::ssize(text)); }

  const std::unique_ptr<Loop> loop = test::new_loop();
  Fd other;
  std::string got;
  std::vector<Fd> got_fds;
  bool fds_lost = false;
  Status ended;
  Event closed;
  std::optional<Connection> connection;

 private:
  Fd near_;
};

TEST_F(ConnectionTest, receives_what_comes) {
  start(recording());
  write("ab");
  write("cd");
  EXPECT_TRUE(eventually([&] { return received() == "abcd"; }));
}

TEST_F(ConnectionTest, shows_again_what_was_not_consumed) {
  std::vector<std::string> shown;
  start({[&](std::span<const std::byte> bytes, const Arrival&) {
           shown.push_back(to_text(bytes));
           return bytes.size() / 3 * 3;  // whole messages of three bytes
         },
         nullptr, nullptr});
  write("ab");
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return shown.size(); }) == 1; }));
  write("cdef");
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return shown.size(); }) == 2; }));
  EXPECT_THAT(on_loop(*loop, [&] { return shown; }), ElementsAre("ab", "abcdef"));
}

TEST_F(ConnectionTest, reads_nothing_behind_a_message_that_is_expected) {
  std::vector<std::string> shown;
  start({[&](std::span<const std::byte> bytes, const Arrival&) {
           shown.push_back(to_text(bytes));
           if (bytes.size() < 6) connection->expect(6);
           return bytes.size() < 6 ? 0 : bytes.size();
         },
         nullptr, nullptr});
  write("abcd");
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return shown.size(); }) == 1; }));
  write("efghijkl");
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return shown.size(); }) == 3; }));
  EXPECT_THAT(on_loop(*loop, [&] { return shown; }), ElementsAre("abcd", "abcdef", "ghijkl"));
}

TEST_F(ConnectionTest, makes_room_in_few_steps_and_not_for_what_is_only_named) {
  constexpr std::size_t kBytes = kLongest / 2;  // in eight reads
  std::vector<const std::byte*> places;
  std::size_t length = 0;
  start({[&](std::span<const std::byte> bytes, const Arrival&) {
           if (places.empty() || places.back() != bytes.data()) places.push_back(bytes.data());
           length = bytes.size();
           connection->expect(kBytes);
           return std::size_t{0};
         },
         nullptr, nullptr});
  write("x");
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return length; }) == 1; }));
  write(std::string(kBytes - 1, 'y'));
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return length; }) == kBytes; }));
  EXPECT_LE(on_loop(*loop, [&] { return places.size(); }), 4u);
}

TEST_F(ConnectionTest, gives_the_bytes_away_that_it_showed) {
  std::vector<std::vector<std::byte>> taken;
  start({[&](std::span<const std::byte> bytes, const Arrival&) -> std::size_t {
           const std::byte* const shown = bytes.data();
           if (bytes.size() < 4) return 0;
           taken.push_back(connection->take_bytes());
           EXPECT_EQ(taken.back().data(), shown);
           return 0;
         },
         nullptr, nullptr});
  write("ab");
  write("cd");
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return taken.size(); }) == 1; }));
  write("efgh");
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return taken.size(); }) == 2; }));
  EXPECT_EQ(to_text(taken[0]) + to_text(taken[1]), "abcdefgh");
}

TEST_F(ConnectionTest, sends_more_than_the_socket_takes_in_order) {
  start(recording());
  const std::vector<std::byte> sent = test::make_pattern(8 << 20, 1);
  on_loop(*loop, [&] {
    connection->send({sent.begin(), sent.begin() + 100});
    connection->send({sent.begin() + 100, sent.end()});
  });
  std::vector<std::byte> arrived(sent.size());
  for (std::size_t bytes = 0; bytes < arrived.size();) {
    const ssize_t n = ::recv(other.get(), arrived.data() + bytes, arrived.size() - bytes, 0);
    ASSERT_GT(n, 0);
    bytes += static_cast<std::size_t>(n);
  }
  EXPECT_EQ(arrived, sent);
}

TEST_F(ConnectionTest, passes_descriptors) {
  start(recording(), Connection::Passing::kAccepted);
  std::optional<Connection> sender;
  on_loop(*loop, [&] {
    ::fcntl(other.get(), F_SETFL, O_NONBLOCK);
    sender.emplace(*loop, std::move(other), kLongest, Connection::Callbacks{});
    std::vector<Fd> fds;
    fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    fds.emplace_back(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    sender->send(to_bytes("two"), std::move(fds));
  });
  EXPECT_TRUE(eventually([&] { return received() == "two"; }));
  ASSERT_EQ(got_fds.size(), 2u);
  EXPECT_NE(::fcntl(got_fds[0].get(), F_GETFD) & FD_CLOEXEC, 0);
  char zero = 'x';
  EXPECT_EQ(::read(got_fds[1].get(), &zero, 1), 1);
  EXPECT_EQ(zero, '\0');
  EXPECT_FALSE(fds_lost);
  on_loop(*loop, [&] { sender.reset(); });
}

// One message of one byte. This process keeps no end to pass.
void pass(PassedPipe& pipe, const Fd& socket, std::size_t copies = 1) {
  const std::byte byte{'f'};
  ASSERT_TRUE(test::send_with_fd(socket, {&byte, 1}, pipe.given, copies));
  pipe.given.reset();
}

TEST_F(ConnectionTest, takes_no_descriptor_where_it_was_not_told_to) {
  start(recording());
  PassedPipe passed;
  pass(passed, other);
  EXPECT_TRUE(eventually([&] { return received() == "f"; }));
  EXPECT_TRUE(got_fds.empty());
  EXPECT_TRUE(eventually([&] { return passed.nobody_has_it(); }));
}

TEST_F(ConnectionTest, says_that_there_was_no_room_for_a_descriptor) {
  start(recording(), Connection::Passing::kAccepted);
  PassedPipe passed;
  pass(passed, other, 100);  // more than any message may have
  EXPECT_TRUE(eventually([&] { return received() == "f"; }));
  EXPECT_TRUE(on_loop(*loop, [&] { return fds_lost; }));
  EXPECT_LE(got_fds.size(), 16u);
  got_fds.clear();
  EXPECT_TRUE(eventually([&] { return passed.nobody_has_it(); }));
}

TEST_F(ConnectionTest, does_not_read_while_it_pauses_and_shows_the_rest_when_it_goes_on) {
  std::vector<std::pair<std::string, std::size_t>> shown;
  start({[&](std::span<const std::byte> bytes, const Arrival& arrival) {
           shown.emplace_back(to_text(bytes), arrival.fresh);
           if (shown.size() == 1) connection->pause_reading();
           return std::size_t{1};
         },
         nullptr, nullptr});
  const auto times = [&] { return on_loop(*loop, [&] { return shown.size(); }); };
  write("abc");
  EXPECT_TRUE(eventually([&] { return times() == 1; }));
  on_loop(*loop, [&] { connection->resume_reading(); });
  EXPECT_TRUE(eventually([&] { return times() == 2; }));
  EXPECT_EQ(shown[1], (std::pair<std::string, std::size_t>("bc", 0)));
  on_loop(*loop, [&] { connection->pause_reading(); });
  write("d");
  for (int turn = 0; turn < 10; ++turn) EXPECT_EQ(times(), 2u);
  on_loop(*loop, [&] { connection->resume_reading(); });
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return shown.back().first.ends_with("d"); }); }));
}

TEST_F(ConnectionTest, reads_nothing_behind_what_it_is_to_show_again) {
  std::vector<std::size_t> shown;
  start({[&](std::span<const std::byte> bytes, const Arrival&) {
           shown.push_back(bytes.size());
           connection->pause_reading();
           connection->resume_reading();  // as often as it is shown anything
           if (shown.size() == 10) write(std::string(50, 'y'));
           return std::size_t{1};
         },
         nullptr, nullptr});
  write(std::string(50, 'x'));
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return shown.size(); }) == 100; }));
  EXPECT_LE(on_loop(*loop, [&] { return *std::ranges::max_element(shown); }), 50u);
}

TEST_F(ConnectionTest, says_that_the_peer_hung_up_while_it_pauses) {
  start(recording());
  on_loop(*loop, [&] { connection->pause_reading(); });
  write("never read");
  other.reset();
  ASSERT_TRUE(closed.wait());
  EXPECT_EQ(ended.code(), Code::kPeerGone);
  EXPECT_EQ(got, "");
}

TEST_F(ConnectionTest, tells_of_what_the_socket_took_later) {
  int told = 0;
  std::size_t queued = 0;
  Connection::Callbacks callbacks = recording();
  callbacks.on_sent = [&] {
    ++told;
    queued = connection->queued();
  };
  start(std::move(callbacks));
  constexpr std::size_t kBytes = std::size_t{8} << 20;
  on_loop(*loop, [&] {
    connection->send(std::vector<std::byte>(kBytes));
    EXPECT_GT(connection->queued(), 0u);
    EXPECT_EQ(told, 0) << "never within a call";
  });
  std::vector<std::byte> room(1 << 16);
  for (std::size_t bytes = 0; bytes < kBytes;) {
    const ssize_t n = ::recv(other.get(), room.data(), room.size(), 0);
    ASSERT_GT(n, 0);
    bytes += static_cast<std::size_t>(n);
  }
  EXPECT_TRUE(eventually([&] { return on_loop(*loop, [&] { return told > 0 && queued == 0; }); }));
}

TEST_F(ConnectionTest, says_once_that_the_peer_hung_up) {
  start(recording());
  write("last");
  other.reset();
  ASSERT_TRUE(closed.wait());
  EXPECT_EQ(got, "last");
  EXPECT_EQ(ended.code(), Code::kPeerGone);
  EXPECT_FALSE(on_loop(*loop, [&] { return connection->is_open(); }));
  on_loop(*loop, [&] { connection->send(to_bytes("to nobody")); });  // no effect
}

TEST_F(ConnectionTest, hangs_up_on_a_message_that_is_too_long) {
  start({[](std::span<const std::byte>, const Arrival&) { return std::size_t{0}; },
         [this](const Status& why) {
           ended = why;
           closed.set();
         },
         nullptr});
  const std::string much(kLongest + 1, 'x');
  for (std::size_t sent = 0; sent < much.size();) {
    const ssize_t n = ::send(other.get(), much.data() + sent, much.size() - sent, MSG_NOSIGNAL);
    if (n < 0) break;
    sent += static_cast<std::size_t>(n);
  }
  ASSERT_TRUE(closed.wait());
  EXPECT_THAT(ended.message(), HasSubstr("more than 1048576 bytes in one message"));
}

TEST_F(ConnectionTest, hangs_up_on_a_peer_that_does_not_read) {
  start(recording());
  on_loop(*loop, [&] {
    for (int i = 0; i < 5; ++i) connection->send(std::vector<std::byte>(std::size_t{16} << 20));
  });
  ASSERT_TRUE(closed.wait());
  EXPECT_THAT(ended.message(), HasSubstr("does not read"));
}

TEST_F(ConnectionTest, tells_of_a_broken_socket_after_the_send_that_found_it) {
  start(recording());
  on_loop(*loop, [&] {
    other.reset();  // seen by the send first: the loop is busy with this
    connection->send(to_bytes("x"));
    EXPECT_TRUE(ended.is_ok());
    EXPECT_TRUE(connection->is_open());
  });
  ASSERT_TRUE(closed.wait());
  EXPECT_EQ(ended.code(), Code::kPeerGone);
}

TEST_F(ConnectionTest, may_be_destroyed_by_its_own_callback) {
  Event destroyed;
  start({[&](std::span<const std::byte> bytes, const Arrival&) {
           connection.reset();
           destroyed.set();
           return bytes.size();
         },
         [](const Status&) { FAIL() << "nobody is left to be told"; }, nullptr});
  write("x");
  ASSERT_TRUE(destroyed.wait());
  char byte = 0;
  EXPECT_EQ(::recv(other.get(), &byte, 1, 0), 0);
}

TEST_F(ConnectionTest, gives_its_socket_away_with_what_was_not_consumed) {
  Event seen;
  start({[&](std::span<const std::byte>, const Arrival&) {
           seen.set();
           return std::size_t{1};
         },
         [](const Status&) { FAIL(); }, nullptr});
  write("abc");
  ASSERT_TRUE(seen.wait());
  auto [socket, rest] = on_loop(*loop, [&] { return connection->detach(); });
  EXPECT_EQ(to_text(rest), "bc");
  write("d");
  ::fcntl(socket.get(), F_SETFL, 0);
  char byte = 0;
  EXPECT_EQ(::recv(socket.get(), &byte, 1, 0), 1);
  EXPECT_EQ(byte, 'd');
}

TEST(Connection, says_from_the_loop_that_a_socket_cannot_be_watched) {
  const auto loop = test::new_loop();
  Status ended;
  Event closed;
  std::optional<Connection> connection;
  on_loop(*loop, [&] {
    connection.emplace(*loop, Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC)), kLongest,
                       Connection::Callbacks{nullptr,
                                             [&](const Status& why) {
                                               ended = why;
                                               closed.set();
                                             },
                                             nullptr});
  });
  ASSERT_TRUE(closed.wait());
  EXPECT_EQ(ended.code(), Code::kInternal);
  on_loop(*loop, [&] { connection.reset(); });
}

}  // namespace
}  // namespace ray_hixl::net
