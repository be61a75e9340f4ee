#include "net/socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "support/child.h"
#include "support/refused_calls.h"

namespace ray_hixl::net {
namespace {

using testing::HasSubstr;

bool ready(const Fd& fd, short events) {
  pollfd waiting{fd.get(), events, 0};
  return ::poll(&waiting, 1, 10'000) == 1;
}

int option(const Fd& fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof(value);
  EXPECT_EQ(::getsockopt(fd.get(), level, name, &value, &length), 0);
  return value;
}

// The two ends of a connection.
std::pair<Fd, Fd> connect_to(const Fd& listener, Result<Fd> connecting) {
  EXPECT_TRUE(connecting.is_ok()) << connecting.status().to_string();
  EXPECT_TRUE(ready(*connecting, POLLOUT));
  EXPECT_TRUE(finish_connect(*connecting).is_ok());
  EXPECT_TRUE(ready(listener, POLLIN));
  Result<std::optional<Fd>> accepted = accept_connection(listener);
  EXPECT_TRUE(accepted.is_ok() && *accepted);
  return {*std::move(connecting), **std::move(accepted)};
}

void expect_bytes_pass(const Fd& from, const Fd& to) {
  ASSERT_EQ(::send(from.get(), "hello", 5, MSG_NOSIGNAL), 5);
  ASSERT_TRUE(ready(to, POLLIN));
  std::array<char, 16> buffer{};
  ASSERT_EQ(::recv(to.get(), buffer.data(), buffer.size(), 0), 5);
  EXPECT_EQ(std::string(buffer.data()), "hello");
}

class Tcp : public testing::TestWithParam<std::string> {};

TEST_P(Tcp, connects_both_ways_without_delay) {
  Result<Fd> listener = listen_tcp(GetParam());
  if (!listener.is_ok() && GetParam() == "::1") GTEST_SKIP() << "no IPv6 here: " << listener.status().message();
  ASSERT_TRUE(listener.is_ok()) << listener.status().to_string();
  const std::uint16_t port = local_port(*listener).value();
  EXPECT_GT(port, 0);
  const auto [near, far] = connect_to(*listener, start_connect_tcp({GetParam(), port}));
  expect_bytes_pass(near, far);
  expect_bytes_pass(far, near);
  EXPECT_NE(option(near, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_NE(option(far, IPPROTO_TCP, TCP_NODELAY), 0);
  EXPECT_FALSE(is_unix(near));
}

INSTANTIATE_TEST_SUITE_P(Loopback, Tcp, testing::Values("127.0.0.1", "::1"),
                         [](const auto& host) { return host.param == "::1" ? "v6" : "v4"; });

TEST(TcpAddress, is_never_a_name_or_a_wildcard) {
  for (const char* host : {"localhost", "0.0.0.0", "::", "", "1.2.3"}) {
    EXPECT_EQ(listen_tcp(host).status().code(), Code::kInvalidArgument) << host;
    EXPECT_EQ(start_connect_tcp({host, 1}).status().code(), Code::kInvalidArgument) << host;
  }
}

TEST(TcpAddress, must_be_one_of_this_host_to_listen_on) {
  const Status refused = listen_tcp("192.0.2.1").status();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("cannot bind to 192.0.2.1: no interface here has this address"));
}

TEST(Tcp, says_that_nobody_listens) {
  std::uint16_t port = 0;
  {
    const Fd listener = std::move(listen_tcp("127.0.0.1")).value();
    port = local_port(listener).value();
  }
  Result<Fd> connecting = start_connect_tcp({"127.0.0.1", port});
  Status status = connecting.status();
  if (connecting.is_ok()) {
    ASSERT_TRUE(ready(*connecting, POLLOUT));
    status = finish_connect(*connecting);
  }
  EXPECT_EQ(status.code(), Code::kPeerGone);
  EXPECT_THAT(status.message(), HasSubstr("nobody listens"));
}

TEST(Unix, connects_and_knows_who_is_there) {
  const std::string name = "ray-hixl-test-" + std::to_string(::getpid());
  Result<Fd> listener = listen_unix(name);
  ASSERT_TRUE(listener.is_ok());
  EXPECT_THAT(listen_unix(name).status().message(), HasSubstr("cannot bind"));
  const auto [near, far] = connect_to(*listener, start_connect_unix(name));
  expect_bytes_pass(near, far);
  EXPECT_TRUE(is_unix(near));
  EXPECT_EQ(peer_process(far)->uid, ::geteuid());
  EXPECT_EQ(peer_process(far)->pid, static_cast<std::uint32_t>(::getpid()));
}

TEST(Unix, tells_a_full_queue_from_nobody) {
  const std::string name = "ray-hixl-test-full-" + std::to_string(::getpid());
  const Fd listener = std::move(listen_unix(name)).value();
  std::vector<Fd> waiting;
  Status status;
  while (status.is_ok() && waiting.size() < 5000) {
    Result<Fd> next = start_connect_unix(name);
    status = next.status();
    if (next.is_ok()) waiting.push_back(*std::move(next));
  }
  EXPECT_EQ(status.code(), Code::kNotAvailable);
  EXPECT_THAT(status.message(), HasSubstr("too many others wait"));
  ASSERT_TRUE(accept_connection(listener).value().has_value());
  EXPECT_TRUE(start_connect_unix(name).is_ok());
}

TEST(Unix, names_have_limits) {
  for (const std::string& name : {std::string(), std::string(108, 'x')}) {
    EXPECT_EQ(listen_unix(name).status().code(), Code::kInvalidArgument);
    EXPECT_EQ(start_connect_unix(name).status().code(), Code::kInvalidArgument);
  }
  EXPECT_EQ(start_connect_unix("ray-hixl-nobody-is-here").status().code(), Code::kPeerGone);
}

TEST(Accept, gives_nothing_when_nobody_waits) {
  const Fd listener = std::move(listen_tcp("127.0.0.1")).value();
  EXPECT_FALSE(accept_connection(listener).value().has_value());
  EXPECT_EQ(accept_connection(Fd()).status().code(), Code::kConnectError);
}

TEST(DeadPeerTimeout, is_for_tcp) {
  const Fd listener = std::move(listen_tcp("127.0.0.1")).value();
  const auto [near, far] = connect_to(listener, start_connect_tcp({"127.0.0.1", local_port(listener).value()}));
  EXPECT_TRUE(set_dead_peer_timeout(near, 4.5).is_ok());
  EXPECT_EQ(option(near, IPPROTO_TCP, TCP_USER_TIMEOUT), 4500);
  EXPECT_NE(option(near, SOL_SOCKET, SO_KEEPALIVE), 0);
  std::array<int, 2> pair{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  const Fd one(pair[0]);
  const Fd two(pair[1]);
  EXPECT_FALSE(set_dead_peer_timeout(one, 1).is_ok());
}

// It is under way: asked for again it would be refused, or never end.
TEST(Connecting, that_a_signal_interrupts_is_not_begun_again) {
  const Fd listener = std::move(listen_tcp("127.0.0.1")).value();
  const std::uint16_t port = local_port(listener).value();
  EXPECT_TRUE(test::in_child([&] { return test::refuse_call(SYS_connect, EINTR) && start_connect_tcp({"127.0.0.1", port}).is_ok(); }));
}

}  // namespace
}  // namespace ray_hixl::net
