// Readers that know the key and ask for more than they take, or for much at once: what they can make an owner hold and do is bounded, and
// others are served meanwhile.
#include <atomic>
#include <thread>

#include "base/deadline.h"
#include "object/metadata.h"
#include "ray_hixl/objects.h"
#include "support/engines.h"
#include "support/eventually.h"
#include "support/raw_socket.h"
#include "support/sanitized.h"
#include "support/yardstick.h"

namespace ray_hixl::test {
namespace {

using control::Purpose;
using control::TransportKind;

class GreedyReader : public testing::Test {
 protected:
  RawSocket connect(Purpose purpose, TransportKind transport = TransportKind::kLocal) const {
    const auto to = control::decode_engine(engine->descriptor()).value();
    RawSocket socket = RawSocket::over_unix(to);
    control::Hello hello;
    hello.purpose = purpose;
    hello.transport = transport;
    hello.server = to.incarnation;
    EXPECT_TRUE(socket.shake_hands(control::Handshake::client(hello, to.key)));
    return socket;
  }
  RawSocket open_session() const {
    RawSocket socket = connect(Purpose::kControl);
    EXPECT_TRUE(socket.message());
    return socket;
  }
  // An object of so many tensors of one byte.
  Handle publish(std::size_t tensors) {
    const auto bytes = std::make_shared<Bytes>(make_pattern(tensors, 1));
    std::vector<SourceTensor> sources;
    for (std::size_t i = 0; i < tensors; ++i) sources.push_back({{bytes->data() + i, 1}, 0});
    const std::vector<Layout> layouts = {{"uint8", 1, {1}}};
    const Bytes metadata = objects.publish(layouts, sources, bytes);
    return decode_head(metadata)->handle;
  }
  [[nodiscard]] std::uint64_t resolved() const { return engine->stats().resolved; }
  // The number of requests that the owner has taken once it takes no more.
  [[nodiscard]] std::uint64_t taken_in_the_end() const {
    std::uint64_t before = ~std::uint64_t{0};
    EXPECT_TRUE(eventually([&] { return std::exchange(before, resolved()) == resolved() && resolved() > 0 && settled(); }));
    return resolved();
  }
  // Two looks that are apart by more than any turn of the owner takes.
  [[nodiscard]] bool settled() const {
    const std::uint64_t before = resolved();
    std::this_thread::sleep_for(scaled(100ms));
    return before == resolved();
  }

  const OwnEngine engine;
  const Objects objects = Objects::create(*engine).value();
};

TEST_F(GreedyReader, that_takes_no_answer_makes_the_owner_hold_one_long_one) {
  const Handle large = publish(100'000);  // an answer of 1.6 MB
  RawSocket session = open_session();
  constexpr std::uint64_t kRequests = unless_sanitized(100, 30);
  Bytes requests;
  for (std::uint64_t i = 1; i <= kRequests; ++i) {
    const Bytes one = control::encode(i, control::Resolve{large});
    requests.insert(requests.end(), one.begin(), one.end());
  }
  ASSERT_TRUE(session.send(requests));
  EXPECT_LE(taken_in_the_end(), 3u) << "1.6 MB each";
  for (std::uint64_t i = 1; i <= kRequests; ++i) {  // and goes on when they are taken
    const auto answer = session.message();
    ASSERT_TRUE(answer);
    ASSERT_EQ(answer->type, control::MessageType::kResolved);
    ASSERT_EQ(answer->request, i);
  }
  EXPECT_EQ(resolved(), kRequests);
}

TEST_F(GreedyReader, that_takes_no_small_answers_is_not_read_any_more) {
  const Handle small = publish(1);
  RawSocket session = open_session();
  constexpr std::uint64_t kRequests = 100'000;
  std::thread asking([&] {
    for (std::uint64_t i = 1; i <= kRequests; ++i) {
      if (!session.send(control::encode(i, control::Resolve{small}))) break;
    }
  });
  const std::uint64_t taken = taken_in_the_end();
  EXPECT_LT(taken, 60'000u) << "a megabyte of answers, and what the socket holds";
  for (std::uint64_t i = 1; i <= kRequests; ++i) {
    const auto answer = session.message();
    if (!answer) ADD_FAILURE() << "answer " << i << " did not come";
    if (!answer) break;
    ASSERT_EQ(answer->request, i);
  }
  asking.join();
}

TEST_F(GreedyReader, of_many_small_spans_leaves_time_for_others) {
  const Region region = add_region(*engine, 4096, 1);
  const Handle handle = control::decode_region(region.descriptor())->handle;
  const RawSocket greedy = connect(Purpose::kData, TransportKind::kStream);
  control::Read many;
  many.spans.assign(500'000, {handle, 0, 1});
  const Bytes long_one = control::encode(1, many);
  const Bytes short_one = control::encode(2, control::Read{{{handle, 0, 1}}});
  std::atomic<bool> over{false};
  std::thread asking([&] {  // and takes nothing of what it asked for
    if (!greedy.send(long_one)) return;
    while (!over && greedy.send(short_one)) {
    }
  });
  std::thread flooding([&] {
    RawSocket taking = connect(Purpose::kData, TransportKind::kStream);
    Bytes some;
    for (int i = 0; i < 1000; ++i) some.insert(some.end(), short_one.begin(), short_one.end());
    std::thread drain([&] { (void)taking.is_hung_up(); });
    while (!over && taking.send(some)) {
    }
    taking.shut();
    drain.join();
  });
  Clock::duration worst{};
  for (int i = 0; i < 10; ++i) {
    const Clock::time_point start = Clock::now();
    RawSocket honest = connect(Purpose::kData, TransportKind::kStream);
    EXPECT_TRUE(honest.send(short_one));
    EXPECT_TRUE(honest.message());
    worst = std::max(worst, Clock::now() - start);
  }
  EXPECT_LT(worst, scaled(500ms));
  over = true;
  greedy.shut();
  asking.join();
  flooding.join();
}

// More spans than are looked at on the loop, of more slots than one.
TEST_F(GreedyReader, gets_every_byte_of_a_long_request) {
  const Region region = add_region(*engine, 4096, 1);
  const Handle first = control::decode_region(region.descriptor())->handle;
  const Handle second = publish(5000);
  RawSocket socket = connect(Purpose::kData, TransportKind::kStream);
  control::Read read;
  for (std::uint64_t i = 0; i < 5000; ++i) read.spans.push_back({i % 2 == 0 ? first : second, i % 4096, i % 3 == 0 ? 0u : 1u});
  Bytes expected;
  for (const control::ReadSpan& span : read.spans) {
    if (span.length > 0) expected.push_back(make_pattern(4096, 1)[span.offset]);
  }
  ASSERT_TRUE(socket.send(control::encode(9, read)));
  const auto reading = socket.message();
  ASSERT_TRUE(reading && reading->type == control::MessageType::kReading);
  EXPECT_EQ(control::decode_reading(reading->body)->bytes, expected.size());
  EXPECT_EQ(socket.bytes(expected.size()), expected);
  const auto end = socket.message();
  ASSERT_TRUE(end && end->type == control::MessageType::kReadEnd);
  EXPECT_THAT(control::decode_read_end(end->body)->status, IsOk());
  read.spans[4000].handle.key ^= 1;
  ASSERT_TRUE(socket.send(control::encode(10, read)));
  const auto refused = socket.message();
  ASSERT_TRUE(refused && refused->type == control::MessageType::kFailure);
  EXPECT_EQ(refused->request, 10u);
}

}  // namespace
}  // namespace ray_hixl::test
