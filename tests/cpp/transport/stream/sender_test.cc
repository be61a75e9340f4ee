#include "transport/stream/sender.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>

#include "support/on_loop.h"
#include "support/own_context.h"
#include "support/pattern.h"
#include "support/raw_socket.h"

namespace ray_hixl::transport::stream {
namespace {

// Over a socket that keeps messages apart, so that the test sees what was sent at once.
class SenderTest : public testing::Test {
 protected:
  SenderTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()), 0);
    reader.emplace(Fd(ends[1]));
    test::on_loop(*own.loop, [&] {
      sender = std::make_unique<Sender>(own.context, carrier, copy, Fd(ends[0]), ByteView(), [] {});
      sender->start();
    });
  }
  ~SenderTest() override {
    test::on_loop(*own.loop, [&] { sender.reset(); });
  }
  Handle publish(std::vector<std::byte>& bytes) const {
    memory::SlotContent content;
    content.ranges = {{bytes.data(), bytes.size()}};
    return own.slots->publish(std::move(content)).value();
  }
  // What one sendmsg() of the owner brings.
  std::size_t next_message() const {
    std::vector<std::byte> whole(1 << 20);
    const ssize_t got = ::recv(reader->fd().get(), whole.data(), whole.size(), 0);
    return got < 0 ? 0 : static_cast<std::size_t>(got);
  }

  const test::OwnContext own;
  const Carrier carrier{control::TransportKind::kStream, nullptr, nullptr, nullptr};
  CheckedCopy copy;
  std::optional<test::RawSocket> reader;
  std::unique_ptr<Sender> sender;
};

TEST_F(SenderTest, sends_a_short_answer_in_one_piece) {
  std::vector<std::byte> bytes(4096);
  test::fill_pattern(bytes, 1);
  const Handle handle = publish(bytes);
  const std::size_t head = control::encode(1, control::Reading{bytes.size()}).size();
  const std::size_t end = control::encode(1, control::ReadEnd{}).size();
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(reader->send(control::encode(1, control::Read{{{handle, 0, bytes.size()}}})));
    EXPECT_EQ(next_message(), head + bytes.size() + end);
  }
}

TEST_F(SenderTest, sends_a_long_answer_from_where_it_lies_and_its_verdict_behind_it) {
  std::vector<std::byte> bytes(64 * 1024);
  const Handle handle = publish(bytes);
  ASSERT_TRUE(reader->send(control::encode(1, control::Read{{{handle, 0, bytes.size()}}})));
  EXPECT_EQ(next_message(), control::encode(1, control::Reading{bytes.size()}).size() + bytes.size());
  EXPECT_EQ(next_message(), control::encode(1, control::ReadEnd{}).size());
}

}  // namespace
}  // namespace ray_hixl::transport::stream
