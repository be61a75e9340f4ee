// Strangers: connections that have not proved anything. They are many, slow and rude, and stand in nobody's way.
#include <sys/resource.h>
#include <sys/wait.h>

#include <array>
#include <random>
#include <thread>

#include "base/deadline.h"
#include "link/greeter.h"
#include "support/engines.h"
#include "support/eventually.h"
#include "support/few_descriptors.h"
#include "support/passed_fd.h"
#include "support/raw_socket.h"
#include "support/sanitized.h"
#include "support/yardstick.h"

namespace ray_hixl::test {
namespace {

using control::Handshake;

// No stranger goes by himself while a test waits.
Options patient() {
  Options options;
  options.connect_timeout_s = 300;
  return options;
}

class StrangersTest : public testing::Test {
 protected:
  RawSocket connect() const { return RawSocket::over_tcp(to); }
  [[nodiscard]] Handshake handshake() const {
    control::Hello hello;
    hello.server = to.incarnation;
    return Handshake::client(hello, to.key);
  }
  [[nodiscard]] std::uint64_t refused() const { return engine->stats().handshakes_refused; }
  // So many that say nothing, and are all greeted.
  void crowd(std::vector<RawSocket>& strangers, std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i) strangers.push_back(connect());
  }

  const DescriptorLimit limit{256};
  const OwnEngine engine{patient()};
  const control::EngineDescriptor to = control::decode_engine(engine->descriptor()).value();
};

TEST_F(StrangersTest, are_at_most_a_quarter_of_the_descriptors) {
  EXPECT_EQ(link::most_greetings(), 64u);
  const DescriptorLimit little(20);
  EXPECT_EQ(link::most_greetings(), 16u);
}

TEST_F(StrangersTest, give_way_to_the_newcomer_oldest_first) {
  std::vector<RawSocket> strangers;
  crowd(strangers, 64);
  RawSocket honest = connect();
  EXPECT_TRUE(honest.shake_hands(handshake()));
  EXPECT_TRUE(strangers.front().is_hung_up());
  EXPECT_EQ(refused(), 1u);
  RawSocket& second = strangers[1];
  EXPECT_TRUE(second.shake_hands(handshake())) << "only as many as had to go";
}

// Nobody knows the incarnation who has no descriptor.
TEST_F(StrangersTest, that_name_this_engine_stay_longer_than_those_that_do_not) {
  RawSocket slow = connect();
  Handshake half = handshake();
  ASSERT_TRUE(slow.send(half.take_output()));
  EXPECT_TRUE(eventually([&] { return slow.has_input(); }));  // the challenge: it was heard
  std::vector<RawSocket> strangers;
  crowd(strangers, 100);
  EXPECT_TRUE(eventually([&] { return refused() == 100 + 1 - 64; }));
  EXPECT_TRUE(slow.shake_hands(std::move(half)));
}

TEST_F(StrangersTest, lose_their_descriptors_to_the_newcomer_when_there_are_no_others) {
  std::vector<RawSocket> strangers;
  crowd(strangers, 20);
  RawSocket last = connect();
  ASSERT_TRUE(last.send(handshake().take_output()));
  EXPECT_TRUE(eventually([&] { return last.has_input(); }));  // so all before it were accepted
  std::vector<Fd> hog;
  while (true) {
    Fd taken(::fcntl(last.fd().get(), F_DUPFD_CLOEXEC, 0));
    if (!taken) break;
    hog.push_back(std::move(taken));
  }
  hog.pop_back();  // for this side's own socket
  RawSocket honest = connect();
  EXPECT_TRUE(honest.shake_hands(handshake()));
  EXPECT_TRUE(strangers.front().is_hung_up());
}

TEST_F(StrangersTest, cannot_pass_a_descriptor) {
  PassedPipe pipe;
  const RawSocket stranger = RawSocket::over_unix(to);
  const Bytes hello = handshake().take_output();
  for (std::size_t i = 0; i + 1 < hello.size(); ++i) {  // never complete
    ASSERT_TRUE(send_with_fd(stranger.fd(), {&hello[i], 1}, pipe.given, 16));
  }
  pipe.given.reset();
  EXPECT_TRUE(eventually([&] { return pipe.nobody_has_it(); })) << "somebody has one still";
  EXPECT_EQ(refused(), 0u) << "and the stranger is still there";
}

// Connects and hangs up, stalls, drips and garbles, `count` at a time, until it is killed.
[[noreturn]] void be_strangers(const control::EngineDescriptor& to, std::size_t count) {
  const DescriptorLimit limit(count + 100);
  std::mt19937 random(4);
  std::vector<Fd> sockets(count);
  const std::array<std::byte, 300> garbage{std::byte{'R'}, std::byte{'H'}, std::byte{'X'}};
  while (true) {
    Fd& socket = sockets[random() % count];
    const std::uint32_t what = random() % 8;
    if (!socket || what == 0) {
      Result<Fd> made = what % 2 == 0 ? net::start_connect_tcp({to.tcp_host, to.tcp_port}) : net::start_connect_unix(to.unix_name);
      socket.reset();
      if (made.is_ok()) socket = *std::move(made);
    } else if (what < 3) {
      (void)::send(socket.get(), garbage.data(), 1 + random() % 3, MSG_NOSIGNAL | MSG_DONTWAIT);  // drips
    } else if (what == 3) {
      (void)::send(socket.get(), garbage.data() + 1, garbage.size() - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
  }
}

TEST(Strangers, in_thousands_do_not_keep_an_honest_client_from_connecting_within_a_second) {
  constexpr std::uint64_t kCrowd = unless_sanitized(4000, 1500);
  const OwnEngine engine;
  const control::EngineDescriptor to = control::decode_engine(engine->descriptor()).value();
  const pid_t crowd = ::fork();
  if (crowd == 0) be_strangers(to, kCrowd);
  EXPECT_TRUE(eventually([&] { return engine->stats().handshakes_refused > kCrowd; }, 60s));
  for (int i = 0; i < 20; ++i) {
    const Clock::time_point start = Clock::now();
    RawSocket honest = i % 2 == 0 ? RawSocket::over_tcp(to) : RawSocket::over_unix(to);
    control::Hello hello;
    hello.server = to.incarnation;
    EXPECT_TRUE(honest.shake_hands(Handshake::client(hello, to.key))) << i;
    EXPECT_TRUE(honest.message()) << "a welcome";
    EXPECT_LT(Clock::now() - start, scaled(1s)) << i;
  }
  ::kill(crowd, SIGKILL);
  ::waitpid(crowd, nullptr, 0);
}

}  // namespace
}  // namespace ray_hixl::test
