// What a forked child can do: with what it has of its parent, and with an engine of its own.
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "base/deadline.h"
#include "base/thread.h"
#include "object/fixtures.h"
#include "support/child.h"
#include "support/eventually.h"
#include "support/raw_socket.h"
#include "support/sanitized.h"
#include "transport/transfer_state.h"

namespace ray_hixl::test {
namespace {

#define NEEDS_THREADS_IN_THE_CHILD() \
  if (kThreadSanitized) GTEST_SKIP() << "ThreadSanitizer ends the child of a process with threads where it starts one"

constexpr std::uint64_t kSize = 1 << 20;

// Everything that a process may have of an engine.
struct Everything {
  explicit Everything(const OwnObjects& of, const Bytes& peers)
      : engine(*of),
        objects(of.objects()),
        region(engine.allocate(kSize).value()),
        peer(engine.connect(peers, kConnect).value()),
        object(test::publish(objects, {kSize}, 5)) {}
  Engine engine;
  Objects objects;
  Region region;
  Peer peer;
  Bytes object;
};

// Closed, each at once, and nothing for it.
bool every_call_says_closed(Everything& all) {
  const Fetch fetch = all.objects.fetch(all.object, {}, nullptr, kRead);
  const Bytes published = test::publish(all.objects, {kSize}, 1);
  const Bytes range(16);
  bool closed = fetch.transfer().wait() && fetch.take().status().code() == Code::kClosed;
  closed &= Metadata::decode(published).value().error().code() == Code::kClosed;
  closed &= all.engine.allocate(1).status().code() == Code::kClosed;
  closed &= all.engine.register_memory({}, false, nullptr).status().code() == Code::kClosed;
  closed &= all.engine.connect(all.engine.descriptor(), kConnect).status().code() == Code::kClosed;
  closed &= all.engine.reserve(0, 1).code() == Code::kClosed;
  closed &= !all.engine.is_registered({nullptr, 1, MemoryKind::kDevice, 0});
  closed &= all.peer.region(range).status().code() == Code::kClosed;
  closed &= all.peer.prepare(std::span<const BatchOp>()).status().code() == Code::kClosed;
  closed &= all.peer.path(MemoryKind::kHost, MemoryKind::kHost).status().code() == Code::kClosed;
  closed &= Objects::create(all.engine).status().code() == Code::kClosed;
  closed &= !all.region.wait_unused(1h);  // the child has a minute
  closed &= !all.region.is_open() && !all.objects.release(all.object);
  closed &= all.engine.stats().objects_published == 0 && all.engine.stats().source.mapped_bytes == 0;
  all.region.close();
  all.peer.close();
  all.engine.close();
  return closed;
}

TEST(ForkOfAnEngine, ends_every_call_in_the_child_and_none_in_the_parent) {
  PeerProcess process;
  const OwnObjects own;
  Everything all(own, process.descriptor());
  EXPECT_TRUE(in_child([&] { return every_call_says_closed(all); }));
  expect_patterns(fetch(all.objects, all.object).value(), {kSize}, 5);
  EXPECT_TRUE(all.region.is_open());
}

TEST(ForkOfAnEngine, ends_transfers_under_way_in_the_child_only) {
  PeerProcess process("stream");
  Options options;
  options.transports = {"stream"};
  options.stall_timeout_s = 60;
  const OwnObjects own(options);
  const Bytes metadata = process.publish({kSize}, 3);
  ASSERT_TRUE(fetch(own.objects(), metadata).is_ok());  // a link is up
  process.pause();
  std::optional<Fetch> fetch = own.objects().fetch(metadata, {}, nullptr, kRead);
  EXPECT_TRUE(in_child([&] {
    const Transfer transfer = fetch->transfer();
    const auto start = Clock::now();
    bool right = transfer.wait() && transfer.wait(100ms) && transfer.done();
    right &= transfer.result().code() == Code::kClosed && fetch->take().status().code() == Code::kClosed;
    right &= transfer.bytes_by_transport().empty();
    transfer.cancel();
    bool heard = false;
    transfer.state()->before_done([&](const Status& result) { heard = result.code() == Code::kClosed; });
    fetch.reset();
    return right && heard && Clock::now() - start < 5s;
  }));
  EXPECT_FALSE(fetch->transfer().done());
  process.resume();
  ASSERT_TRUE(fetch->transfer().wait());
  expect_patterns(fetch->take().value(), {kSize}, 3);
}

TEST(ForkOfAnEngine, leaves_what_had_arrived_to_the_child) {
  PeerProcess process;
  const OwnObjects own;
  const Fetch fetch = own.objects().fetch(process.publish({kSize, 5000}, 3), {}, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  Child child([&](const Child::Told&) {
    const auto tensors = fetch.take();
    return tensors.is_ok() && holds_pattern(range_of((*tensors)[0]), 3) && holds_pattern(range_of((*tensors)[1]), 4);
  });
  (void)fetch.take();  // and dropped
  const Bytes others = process.publish({kSize, 5000}, 30);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(test::fetch(own.objects(), others).is_ok());
  EXPECT_TRUE(child.passes());
}

class ForkedReader : public testing::TestWithParam<std::string> {};

// The parent is another process: what it writes after the fork is read, and what it publishes then is found.
TEST_P(ForkedReader, reads_its_parent_as_it_is_now) {
  NEEDS_THREADS_IN_THE_CHILD();
  const OwnObjects own;
  const Region region = make_region(*own, kSize, 1, GetParam() == "shm" ? SourceMemory::kArena : SourceMemory::kOrdinary, 0);
  const Bytes parent = own->descriptor();
  const Bytes described = region.descriptor();
  Child child([&](const Child::Told& late) {
    const OwnObjects mine(GetParam() == "all" ? Options{}.transports : std::vector<std::string>{GetParam()});
    const Region local = mine->allocate(kSize).value();
    const Peer peer = mine->connect(parent, kConnect).value();
    const RemoteRegion remote = peer.region(described).value();
    const std::string path = peer.path(MemoryKind::kHost, remote).value().transport;
    if (path == "local" || !peer.read(whole(peer, local, remote), kRead).is_ok() || !holds_pattern(local, 2)) return false;
    if (GetParam() == "shm") return true;  // reads nothing but the source arena
    const auto tensors = fetch(mine.objects(), late);
    return tensors.is_ok() && holds_pattern(range_of((*tensors)[0]), 9);
  });
  fill(region, 2);
  EXPECT_TRUE(child.passes(publish(own.objects(), {kSize}, 9)));
}

INSTANTIATE_TEST_SUITE_P(By, ForkedReader, testing::Values("all", "shm", "cma", "stream"), [](const auto& test) { return test.param; });

TEST(ForkOfAnEngine, lets_two_engines_of_the_child_read_each_other) {
  NEEDS_THREADS_IN_THE_CHILD();
  const OwnObjects own;
  EXPECT_TRUE(in_child([] {
    const OwnObjects one({"local"});
    const OwnObjects other({"local"});
    const auto tensors = fetch(one.objects(), publish(other.objects(), {kSize}, 7));
    return tensors.is_ok() && holds_pattern(range_of((*tensors)[0]), 7);
  }));
}

TEST(ForkOfAnEngine, does_not_make_a_dead_parent_look_alive) {
  NEEDS_THREADS_IN_THE_CHILD();
  std::array<int, 2> told{};
  std::array<int, 2> holds{};  // open for as long as the test wants the grandchild to live
  ASSERT_TRUE(::pipe(told.data()) == 0 && ::pipe(holds.data()) == 0);
  const pid_t parent = ::fork();
  if (parent == 0) {
    ::alarm(60);
    const OwnEngine engine;
    const Bytes descriptor = engine->descriptor();
    [[maybe_unused]] const ssize_t sent = ::write(told[1], descriptor.data(), descriptor.size());
    std::byte any{};
    (void)!::read(holds[0], &any, 1);  // the test is connected
    if (::fork() == 0) {
      ::alarm(60);
      ::close(holds[1]);
      ::close(told[1]);
      (void)!::read(holds[0], &any, 1);
      ::_exit(0);
    }
    ::kill(::getpid(), SIGKILL);
  }
  Bytes descriptor(4096);
  const ssize_t got = ::read(told[0], descriptor.data(), descriptor.size());
  ASSERT_GT(got, 0);
  descriptor.resize(static_cast<std::size_t>(got));
  const control::EngineDescriptor engine = control::decode_engine(descriptor).value();
  RawSocket by_tcp = RawSocket::over_tcp(engine);
  RawSocket by_unix = RawSocket::over_unix(engine);
  ASSERT_EQ(::write(holds[1], "x", 1), 1);
  int status = 0;
  EXPECT_EQ(::waitpid(parent, &status, 0), parent);
  EXPECT_TRUE(by_tcp.is_hung_up());
  EXPECT_TRUE(by_unix.is_hung_up());
  for (const int end : {told[0], told[1], holds[0], holds[1]}) ::close(end);
}

// Children may be forked in any moment of what the parent's other threads do.
TEST(ForkOfAnEngine, storms_beside_transfers) {
  if (!kSanitizers.empty()) GTEST_SKIP() << "the sanitizers' allocators may be locked for ever in a child, by a thread that is not there";
  PeerProcess process;
  const OwnObjects own;
  const std::vector<std::uint64_t> sizes = {100, kSize + kSize / 4, 5000};  // not copied in the caller
  const Bytes metadata = process.publish(sizes, 11);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> fetched{0};
  std::array<std::thread, 2> readers;
  for (std::thread& reader : readers) {
    reader = *start_thread("reader", [&] {
      while (!stop) {
        const auto tensors = fetch(own.objects(), metadata);
        if (!tensors.is_ok() || !holds_pattern(range_of((*tensors)[1]), 12)) break;
        fetched.fetch_add(1);
        const Bytes published = test::publish(own.objects(), {100}, 2);
        (void)own.objects().release(published);
      }
    });
  }
  for (int i = 0; i < 300; ++i) {
    const auto kept = fetch(own.objects(), metadata);
    std::optional<Fetch> under_way = own.objects().fetch(metadata, {}, nullptr, kRead);
    std::optional<Engine> engine = *own;
    ASSERT_TRUE(kept.is_ok());
    ASSERT_TRUE(in_child([&] {
      bool right = engine->stats().transfers_started == 0;
      right &= under_way->transfer().wait() && holds_pattern(range_of((*kept)[1]), 12);
      (void)under_way->take();
      under_way.reset();
      right &= own.objects().fetch(metadata, {}, nullptr, kRead).transfer().result().code() == Code::kClosed;
      engine->close();
      engine.reset();
      return right;
    })) << "child "
        << i;
    EXPECT_TRUE(under_way->transfer().wait());
  }
  const std::uint64_t before = fetched;
  EXPECT_TRUE(eventually([&] { return fetched > before + 2; }, 20s));
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

}  // namespace
}  // namespace ray_hixl::test
