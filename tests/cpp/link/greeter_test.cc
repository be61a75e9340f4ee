// Greeter: where the kernel will not have it listen. Who comes then, and how rude, is in strangers_test.cc.
#include "link/greeter.h"

#include <gtest/gtest.h>
#include <sys/epoll.h>

#include <atomic>
#include <chrono>
#include <memory>

#include "base/log.h"
#include "base/random.h"
#include "support/event.h"
#include "support/on_loop.h"
#include "support/own_context.h"
#include "support/raw_socket.h"

namespace ray_hixl::link {
namespace {

using namespace std::chrono_literals;

// A second watch of a descriptor is refused, like any where memory or the user's number of watches ran out.
TEST(Greeter, hears_of_connections_once_its_listener_can_be_watched) {
  control::EngineDescriptor self;
  fill_random(self.incarnation);
  fill_random(self.key);
  const test::OwnContext own(self.incarnation);
  const Fd listener = std::move(net::listen_tcp("127.0.0.1")).value();
  self.tcp_host = "127.0.0.1";
  self.tcp_port = net::local_port(listener).value();

  std::atomic<int> told{0};
  set_log_sink([&](LogLevel, std::string_view) { ++told; });
  test::Event admitted;
  const auto greeter = std::make_shared<Greeter>(own.context, self, [&](const control::Hello&, const Fd&, const auto&) { admitted.set(); });
  test::on_loop(*own.loop, [&] {
    EXPECT_TRUE(own.loop->watch(listener.get(), 0, [](std::uint32_t) {}).is_ok());
    greeter->watch(listener);
    own.loop->at(Deadline::in(250ms), [&] { own.loop->unwatch(listener.get()); });  // the first retry is refused, too
  });
  test::RawSocket honest = test::RawSocket::over_tcp(self);
  control::Hello hello;
  hello.server = self.incarnation;
  EXPECT_TRUE(honest.shake_hands(control::Handshake::client(hello, self.key)));
  EXPECT_TRUE(admitted.wait());
  EXPECT_EQ(told, 1) << "and not at every try";
  test::on_loop(*own.loop, [&] { greeter->close(); });
  set_log_sink(nullptr);
}

}  // namespace
}  // namespace ray_hixl::link
