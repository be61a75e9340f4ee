// Sessions: the owner's side of a link, and when it ends.
#include <sys/wait.h>

#include <csignal>

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

}  // namespace
}  // namespace ray_hixl::test
