// Sessions: the owner's side of a link, and when it ends.
#include <sys/wait.h>

#include <csignal>
#include <optional>
#include <thread>

#include "support/engines.h"
#include "support/eventually.h"
#include "support/raw_socket.h"

namespace ray_hixl::test {
namespace {

// A fork copies descriptors (ray-hixl's own are closed in the child, others are not), so that the connection says nothing of its reader's
// end.
TEST(Session, ends_with_its_readers_process_even_where_a_child_keeps_the_socket) {
  const OwnEngine engine;
  const control::EngineDescriptor to = control::decode_engine(engine->descriptor()).value();
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  const Fd from_reader(pipe[0]);
  const pid_t reader = ::fork();
  if (reader == 0) {
    ::alarm(60);
    RawSocket socket = RawSocket::over_unix(to);
    control::Hello hello;
    hello.server = to.incarnation;
    if (!socket.shake_hands(control::Handshake::client(hello, to.key)) || !socket.message()) ::_exit(1);
    if (::dup(socket.fd().get()) < 0) ::_exit(1);
    const pid_t child = ::fork();
    if (child == 0) ::alarm(60);
    if (child != 0) (void)!::write(pipe[1], &child, sizeof(child));
    ::pause();
  }
  ::close(pipe[1]);
  pid_t child = 0;
  ASSERT_EQ(::read(from_reader.get(), &child, sizeof(child)), static_cast<ssize_t>(sizeof(child)));
  EXPECT_TRUE(eventually([&] { return engine->stats().sessions == 1; }));
  ::kill(reader, SIGKILL);
  ::waitpid(reader, nullptr, 0);
  EXPECT_TRUE(eventually([&] { return engine->stats().sessions == 0; }));
  EXPECT_EQ(::kill(child, SIGKILL), 0);
}

// A session from a raw socket. The engine gives up what stalls for a tenth of a second.
class RawSession : public testing::Test {
 protected:
  static Options with_stall_timeout(double seconds) {
    Options made;
    made.stall_timeout_s = seconds;
    return made;
  }
  explicit RawSession(const Options& options = with_stall_timeout(0.1)) : engine(options) {
    const control::EngineDescriptor to = control::decode_engine(engine->descriptor()).value();
    socket.emplace(RawSocket::over_tcp(to));
    control::Hello hello;
    hello.server = to.incarnation;
    EXPECT_TRUE(socket->shake_hands(control::Handshake::client(hello, to.key)));
    EXPECT_TRUE(socket->message()) << "a welcome";
  }
  // The first bytes of a message that says it has so many in all.
  static Bytes beginning(const Bytes& whole, std::size_t bytes) {
    return {whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(bytes)};
  }

  const OwnEngine engine;
  std::optional<RawSocket> socket;
};

// So that what is hung up on is so for what it said.
class PatientRawSession : public RawSession {
 protected:
  PatientRawSession() : RawSession(with_stall_timeout(1000)) {}
};

TEST_F(PatientRawSession, keeps_no_long_message_that_clients_do_not_send) {
  control::Resolved answer;
  answer.ranges.resize(100'000);
  ASSERT_TRUE(socket->send(beginning(control::encode(1, answer), 100)));
  EXPECT_TRUE(socket->is_hung_up());
}

TEST_F(RawSession, does_not_wait_for_ever_for_the_rest_of_a_request) {
  const Bytes check = control::encode(1, control::Check{std::vector<Handle>(1000)});
  ASSERT_TRUE(socket->send(beginning(check, check.size() - 1)));
  EXPECT_TRUE(socket->is_hung_up());
  EXPECT_TRUE(eventually([&] { return engine->stats().sessions == 0; }));
}

TEST_F(RawSession, may_say_nothing_for_long_between_requests) {
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ASSERT_TRUE(socket->send(control::encode(1, control::Check{})));
  const auto answer = socket->message();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->type, control::MessageType::kChecked);
}

}  // namespace
}  // namespace ray_hixl::test
