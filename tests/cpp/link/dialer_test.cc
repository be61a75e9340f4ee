#include "link/dialer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <functional>
#include <future>
#include <optional>

#include "base/mutex.h"
#include "base/random.h"
#include "net/socket.h"
#include "support/few_descriptors.h"
#include "support/on_loop.h"
#include "support/raw_socket.h"

namespace ray_hixl::link {
namespace {

using namespace std::chrono_literals;
using control::Handshake;
using testing::AllOf;
using testing::HasSubstr;

// Listens like an engine, at both kinds of address. The test accepts.
class Listener {
 public:
  Listener() {
    fill_random(descriptor.incarnation);
    fill_random(descriptor.key);
    descriptor.unix_name = "ray-hixl-test-" + std::to_string(random_u64());
    descriptor.tcp_host = "127.0.0.1";
    tcp = net::listen_tcp("127.0.0.1").value();
    descriptor.tcp_port = net::local_port(tcp).value();
    over_unix = net::listen_unix(descriptor.unix_name).value();
  }
  // Connections that nobody accepts, until there is no room for another one.
  [[nodiscard]] std::vector<Fd> fill_queue() const {
    std::vector<Fd> waiting;
    while (true) {
      Result<Fd> next = net::start_connect_unix(descriptor.unix_name);
      if (!next.is_ok()) return waiting;
      waiting.push_back(*std::move(next));
    }
  }
  // The next one; waits for it.
  [[nodiscard]] static Fd accept_bare(const Fd& listener) {
    EXPECT_TRUE(readable(listener));
    return *std::move(*net::accept_connection(listener));
  }
  [[nodiscard]] static test::RawSocket accept(const Fd& listener) { return test::RawSocket(accept_bare(listener)); }
  [[nodiscard]] static bool readable(const Fd& fd) {
    pollfd waiting{fd.get(), POLLIN, 0};
    return ::poll(&waiting, 1, 10000) == 1;
  }
  [[nodiscard]] bool serve(test::RawSocket& socket) const {
    return socket.shake_hands(Handshake::server(descriptor.incarnation, descriptor.key));
  }

  control::EngineDescriptor descriptor;
  Fd tcp;
  Fd over_unix;
};

// A dial under way.
class Dialing {
 public:
  Dialing(const Listener& to, std::chrono::nanoseconds timeout, Ways ways = Ways::kAll, Met met = Met::kNever) : loop_(test::new_loop()) {
    test::on_loop(*loop_, [&] {
      control::Hello hello;
      hello.server = to.descriptor.incarnation;
      dial(
          *loop_, {}, to.descriptor, hello, Deadline::in(timeout),
          [this](Result<Dialed> result) {
            const MutexLock lock(mutex_);
            result_ = std::move(result);
            ended_.notify_one();
          },
          met, ways);
    });
  }
  // While the dialer does nothing.
  void meanwhile(const std::function<void()>& happens) { test::on_loop(*loop_, happens); }
  [[nodiscard]] Result<Dialed> result() {
    MutexLock lock(mutex_);
    while (!result_) {
      if (!ended_.wait_until(lock, Deadline::in(20s))) return Status(Code::kInternal, "the dial did not end");
    }
    return *std::exchange(result_, std::nullopt);
  }

 private:
  Mutex mutex_;
  Condition ended_;
  std::optional<Result<Dialed>> result_ RAY_HIXL_GUARDED_BY(mutex_);
  const std::unique_ptr<net::Loop> loop_;  // ends before what its callbacks use
};

TEST(Dial, waits_for_a_place_in_a_full_queue) {
  const Listener listener;
  std::vector<Fd> waiting = listener.fill_queue();
  ASSERT_GT(waiting.size(), 100u);
  Dialing dialing(listener, 10s);  // it has been turned away once by now
  for (std::size_t i = 0; i < waiting.size(); ++i) (void)listener.accept(listener.over_unix);
  test::RawSocket socket = listener.accept(listener.over_unix);
  EXPECT_TRUE(listener.serve(socket));
  const Result<Dialed> dialed = dialing.result();
  ASSERT_TRUE(dialed.is_ok()) << dialed.status().to_string();
  EXPECT_TRUE(dialed->over_unix_socket);
}

TEST(Dial, says_so_if_the_queue_stays_full) {
  const Listener listener;
  const std::vector<Fd> waiting = listener.fill_queue();
  const Result<Dialed> dialed = Dialing(listener, 100ms).result();
  EXPECT_EQ(dialed.status().code(), Code::kConnectError);
  EXPECT_THAT(dialed.status().message(), HasSubstr("too many others wait"));
}

TEST(Dial, takes_tcp_where_nobody_listens_at_the_unix_socket) {
  Listener listener;
  listener.over_unix.reset();
  Dialing dialing(listener, 10s);
  test::RawSocket socket = listener.accept(listener.tcp);
  EXPECT_TRUE(listener.serve(socket));
  const Result<Dialed> dialed = dialing.result();
  ASSERT_TRUE(dialed.is_ok()) << dialed.status().to_string();
  EXPECT_FALSE(dialed->over_unix_socket);
  EXPECT_TRUE(dialed->unix_socket_failed);
  EXPECT_FALSE(dialed->no_unix_socket.empty());
}

TEST(Dial, takes_no_tcp_if_it_is_not_to) {
  Listener listener;
  listener.over_unix.reset();
  EXPECT_EQ(Dialing(listener, 10s, Ways::kUnixOnly).result().status().code(), Code::kPeerGone);
}

TEST(Dial, tells_an_engine_that_has_ended_from_an_address_that_leads_nowhere) {
  Listener listener;
  listener.over_unix.reset();
  listener.tcp.reset();
  const Status ended = Dialing(listener, 10s).result().status();
  EXPECT_EQ(ended.code(), Code::kPeerGone);
  EXPECT_THAT(ended.message(), HasSubstr("its process has ended"));
  listener.descriptor.boot_id.front() ^= std::byte{1};  // on another host, where its Unix socket says nothing
  const Status nowhere = Dialing(listener, 10s).result().status();
  EXPECT_EQ(nowhere.code(), Code::kConnectError);
  EXPECT_THAT(nowhere.message(), AllOf(HasSubstr("a firewall rejects"), HasSubstr("Options.host")));
  EXPECT_EQ(Dialing(listener, 10s, Ways::kAll, Met::kBefore).result().status().code(), Code::kPeerGone) << "it was there";
}

TEST(Dial, tries_again_where_a_busy_owner_hangs_up_without_a_word) {
  const Listener listener;
  Dialing dialing(listener, 10s);
  for (int i = 0; i < 3; ++i) listener.accept(listener.over_unix).hang_up();
  test::RawSocket socket = listener.accept(listener.over_unix);
  EXPECT_TRUE(listener.serve(socket));
  EXPECT_TRUE(dialing.result().is_ok());
}

TEST(Dial, says_what_it_may_be_if_the_owner_hangs_up_again_and_again) {
  const Listener listener;
  Dialing dialing(listener, 10s);
  for (int i = 0; i < 4; ++i) listener.accept(listener.over_unix).hang_up();
  EXPECT_THAT(dialing.result().status().message(), AllOf(HasSubstr("4 times"), HasSubstr("no engine"), HasSubstr("more connections")));
}

TEST(Dial, takes_another_engine_at_the_address_for_the_end_of_the_one_that_it_means) {
  const Listener listener;
  Dialing dialing(listener, 10s);
  test::RawSocket socket = listener.accept(listener.over_unix);
  EXPECT_FALSE(socket.shake_hands(Handshake::server({std::byte{1}}, listener.descriptor.key)));
  const Status status = dialing.result().status();
  EXPECT_EQ(status.code(), Code::kPeerGone);
  EXPECT_THAT(status.message(), HasSubstr("another engine listens there"));
}

// A connection on which something was said.
Fd spoken_on(const Listener& listener) {
  Fd socket = listener.accept_bare(listener.over_unix);
  EXPECT_TRUE(listener.readable(socket));
  std::array<char, 128> hello{};
  EXPECT_GT(::recv(socket.get(), hello.data(), hello.size(), 0), 0);  // or the kernel would throw away what is sent
  EXPECT_EQ(::send(socket.get(), "R", 1, MSG_NOSIGNAL), 1);
  return socket;
}

// Here the handshake was done then, but not there.
TEST(Dial, tries_again_where_the_owner_goes_before_it_has_its_proof) {
  const Listener listener;
  Dialing dialing(listener, 10s);
  Fd socket = listener.accept_bare(listener.over_unix);
  ASSERT_TRUE(listener.readable(socket));
  std::array<std::byte, 256> hello{};
  const ssize_t got = ::recv(socket.get(), hello.data(), hello.size(), 0);
  ASSERT_GT(got, 0);
  auto handshake = Handshake::server(listener.descriptor.incarnation, listener.descriptor.key);
  ASSERT_EQ(handshake.on_bytes(std::span(hello).first(static_cast<std::size_t>(got))), static_cast<std::size_t>(got));
  const std::vector<std::byte> challenge = handshake.take_output();
  dialing.meanwhile([&] {
    EXPECT_EQ(::send(socket.get(), challenge.data(), challenge.size(), MSG_NOSIGNAL), static_cast<ssize_t>(challenge.size()));
    socket.reset();
  });
  test::RawSocket again = listener.accept(listener.over_unix);
  EXPECT_TRUE(listener.serve(again));
  const Result<Dialed> dialed = dialing.result();
  EXPECT_TRUE(dialed.is_ok()) << dialed.status().to_string();
}

TEST(Dial, is_refused_by_who_has_spoken) {
  const Listener listener;
  Dialing dialing(listener, 10s);
  for (int i = 0; i < 2; ++i) spoken_on(listener).reset();
  EXPECT_THAT(dialing.result().status().message(), HasSubstr("hung up during the handshake"));
}

TEST(Dial, tells_of_the_end_of_who_dies_in_the_middle_of_the_handshake) {
  Listener listener;
  Dialing dialing(listener, 10s);
  Fd socket = spoken_on(listener);
  listener.over_unix.reset();
  listener.tcp.reset();
  socket.reset();
  EXPECT_EQ(dialing.result().status().code(), Code::kPeerGone);
}

TEST(Dial, names_a_shortage_of_descriptors) {
  const Listener listener;
  const auto loop = test::new_loop();
  Status status;
  {
    const test::FewDescriptors none(0);
    std::promise<Status> promise;
    loop->post([&] {
      dial(
          *loop, {}, listener.descriptor, {}, Deadline::in(10s), [&](const Result<Dialed>& result) { promise.set_value(result.status()); },
          Met::kNever);
    });
    status = promise.get_future().get();
  }
  EXPECT_THAT(status.message(), AllOf(HasSubstr("no file descriptor is left"), HasSubstr("ulimit -n")));
}

}  // namespace
}  // namespace ray_hixl::link
