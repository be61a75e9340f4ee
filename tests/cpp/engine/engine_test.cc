#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <optional>
#include <thread>

#include "support/engines.h"
#include "support/eventually.h"
#include "support/forbidden_calls.h"

namespace ray_hixl::test {
namespace {

using testing::HasSubstr;

TEST(Engine, refuses_bad_options) {
  Options options;
  options.transports = {"local", "pigeon"};
  EXPECT_THAT(Engine::create(options).status(), FailsWith(Code::kInvalidArgument));
  options = {};
  options.host = "0.0.0.0";
  EXPECT_THAT(Engine::create(options).status(), FailsWith(Code::kInvalidArgument));
  options = {};
  options.host = "192.0.2.1";  // not an address of this machine: found when listening, after most of the engine was started
  EXPECT_FALSE(Engine::create(options).is_ok());
}

TEST(Engine, has_a_descriptor_of_its_own) {
  const OwnEngine one;
  const OwnEngine other;
  EXPECT_FALSE(one->descriptor().empty());
  EXPECT_NE(one->descriptor(), other->descriptor());
  EXPECT_EQ(one->descriptor(), one->descriptor());
}

TEST(Engine, does_not_connect_to_garbage) {
  const OwnEngine engine;
  EXPECT_THAT(engine->connect({}, kConnect).status(), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(engine->connect(make_pattern(200, 1), kConnect).status(), FailsWith(Code::kInvalidArgument));
  Bytes cut = engine->descriptor();
  cut.pop_back();
  EXPECT_THAT(engine->connect(cut, kConnect).status(), FailsWith(Code::kInvalidArgument));
}

TEST(Engine, does_not_connect_with_a_wrong_key_or_to_an_earlier_life) {
  const OwnEngine engine;
  const OwnEngine other;
  Bytes descriptor = other->descriptor();
  descriptor[4 + 2 + 16] ^= std::byte{1};  // magic, version, incarnation; then the key
  EXPECT_THAT(engine->connect(descriptor, kConnect).status(), FailsWith(Code::kConnectError));
  descriptor = other->descriptor();
  descriptor[4 + 2] ^= std::byte{1};
  EXPECT_THAT(engine->connect(descriptor, kConnect).status(), FailsWith(Code::kPeerGone));
}

TEST(Engine, does_not_connect_to_a_closed_engine) {
  const OwnEngine engine;
  const OwnEngine other;
  const Bytes descriptor = other->descriptor();
  other->close();
  EXPECT_THAT(engine->connect(descriptor, kConnect).status(), FailsWith(Code::kPeerGone));
}

TEST(Engine, gives_up_connecting_at_the_deadline) {
  PeerProcess process;
  const Bytes descriptor = process.descriptor();
  process.pause();
  const OwnEngine engine;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(engine->connect(descriptor, 200ms).status(), FailsWith(Code::kConnectError));
  EXPECT_LT(std::chrono::steady_clock::now() - start, scaled(5s));
  EXPECT_THAT(engine->connect(descriptor, -1s).status(), FailsWith(Code::kConnectError));
  process.resume();
  EXPECT_TRUE(engine->connect(descriptor, kConnect).is_ok());
}

TEST(Engine, every_call_after_close_says_closed) {
  const OwnEngine engine;
  const Region region = add_region(*engine, 64, 1);
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(region.descriptor()).value();
  const Batch batch = whole(peer, region, remote);
  engine->close();
  engine->close();
  EXPECT_THAT(engine->register_memory({}, false, nullptr).status(), FailsWith(Code::kClosed));
  EXPECT_THAT(engine->allocate(1).status(), FailsWith(Code::kClosed));
  EXPECT_THAT(engine->connect(engine->descriptor(), kConnect).status(), FailsWith(Code::kClosed));
  EXPECT_THAT(peer.region(region.descriptor()).status(), FailsWith(Code::kClosed));
  EXPECT_THAT(prepare_one(peer, {region, 0, remote, 0, 1}).status(), FailsWith(Code::kClosed));
  EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kClosed));
  EXPECT_THAT(peer.path(MemoryKind::kHost, MemoryKind::kHost).status(), FailsWith(Code::kClosed));
  EXPECT_FALSE(region.is_open());
  region.close();
  peer.close();
  EXPECT_EQ(engine->stats().regions, 0u);
}

TEST(Engine, may_be_closed_by_several_threads_at_once) {
  const OwnEngine engine;
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  std::barrier start(4);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      engine->close();
      EXPECT_THAT(engine->allocate(1).status(), FailsWith(Code::kClosed));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Engine, may_be_closed_while_others_call_it) {
  const OwnEngine engine;
  std::barrier start(4);
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      start.arrive_and_wait();
      for (int n = 0; n < 200; ++n) {
        const auto region = engine->allocate(4096);
        const auto peer = engine->connect(engine->descriptor(), kConnect);
        if (!region.is_ok() || !peer.is_ok()) continue;
        const auto remote = peer->region(region->descriptor());
        if (!remote.is_ok()) continue;
        const auto batch = prepare_one(*peer, {*region, 0, *remote, 0, 4096});
        if (batch.is_ok()) (void)peer->read(*batch, kRead);
      }
    });
  }
  start.arrive_and_wait();
  engine->close();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine->stats().transfers_in_flight, 0u);
}

// Its destructor runs on the reaper.
struct ClosesEngine {
  Engine engine;
  std::binary_semaphore& gone;
  ~ClosesEngine() {
    engine.close();
    gone.release();
  }
};

TEST(Engine, may_be_closed_by_an_owner_that_is_dropped) {
  const OwnEngine engine;
  std::binary_semaphore gone{0};
  const Region region = engine->register_memory({}, false, std::make_shared<ClosesEngine>(*engine, gone)).value();
  region.close();
  EXPECT_TRUE(gone.try_acquire_for(kRead));
  EXPECT_THAT(engine->allocate(1).status(), FailsWith(Code::kClosed));
}

TEST(Engine, that_is_dropped_is_closed_in_the_background) {
  std::binary_semaphore gone{0};
  struct Tells {
    std::binary_semaphore& gone;
    ~Tells() { gone.release(); }
  };
  std::optional<Engine> engine = Engine::create({}).value();
  std::optional<Region> region = engine->register_memory({}, false, std::make_shared<Tells>(gone)).value();
  engine.reset();
  EXPECT_TRUE(gone.try_acquire_for(kRead));  // although the region's handle is still there
  EXPECT_FALSE(region->is_open());
}

TEST(Engine, is_kept_open_by_a_peer) {
  std::optional<Engine> engine = Engine::create({}).value();
  const Engine copy = *engine;
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  const Region region = add_region(*engine, 64, 1);
  engine.reset();
  EXPECT_THAT(peer.read(whole(peer, region, peer.region(region.descriptor()).value()), kRead), IsOk());
  copy.close();
}

TEST(Engine, in_a_forked_child_says_closed_and_leaves_the_parent_alone) {
  const OwnEngine engine;
  const Region region = add_region(*engine, 64, 1);
  const Region local = add_region(*engine, 64, 2);
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  const Batch batch = whole(peer, local, peer.region(region.descriptor()).value());
  const pid_t child = fork();
  if (child == 0) {
    bool good = engine->allocate(1).status().code() == Code::kClosed;
    good = good && engine->connect(engine->descriptor(), kConnect).status().code() == Code::kClosed;
    good = good && peer.read(batch, kRead).code() == Code::kClosed;
    good = good && !region.is_open();
    region.close();
    peer.close();
    engine->close();
    _exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(region.is_open());
  EXPECT_THAT(peer.read(batch, kRead), IsOk());
  EXPECT_TRUE(is_pattern(bytes_of(local), 1));
}

TEST(Engine, gives_back_memory_that_nobody_takes_for_a_while) {
  Options options;
  options.idle_timeout_s = 0.02;
  const OwnEngine engine(options);
  const Region first = engine->allocate(1).value();
  ASSERT_TRUE(engine->allocate(40 << 20).is_ok());
  EXPECT_TRUE(eventually([&] { return engine->stats().source.mapped_bytes == 8 << 20; }));
}

TEST(Engine, counts_what_it_does) {
  PeerProcess process("stream");
  const OwnEngine engine({"stream"});
  const Region local = engine->allocate(1 << 20).value();
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  const Batch batch = whole(peer, local, peer.region(process.add_region(1 << 20, 5)).value());
  ASSERT_THAT(peer.read(batch, kRead), IsOk());
  process.close_region(0);
  EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kInvalidRegion));
  const Stats stats = engine->stats();
  ASSERT_EQ(stats.fetched.size(), 1u);
  EXPECT_EQ(stats.fetched[0].transport, "stream");
  EXPECT_EQ(stats.fetched[0].bytes, 1u << 20);
  EXPECT_EQ(stats.transfers_started, 2u);
  EXPECT_EQ(stats.transfers_succeeded, 1u);
  EXPECT_EQ(stats.transfers_failed, 1u);
  EXPECT_EQ(stats.transfers_in_flight, 0u);
  EXPECT_EQ(stats.quarantined_bytes, 0u);
  EXPECT_EQ(stats.regions, 1u);
  EXPECT_EQ(stats.links, 1u);
  EXPECT_EQ(stats.source.live_blocks, 1u);
  EXPECT_EQ(process.stat("served_bytes"), 1u << 20);
  EXPECT_EQ(process.stat("sessions"), 1u);
  EXPECT_EQ(process.stat("regions"), 0u);
}

TEST(ProbeTransports, lists_every_transport_with_a_reason_where_it_does_not_work) {
  std::vector<std::string> listed;
  for (const TransportProbe& probe : probe_transports()) {
    listed.push_back(probe.transport);
    EXPECT_EQ(probe.usable, probe.reason.empty()) << probe.transport;
  }
  EXPECT_THAT(listed, testing::ElementsAre("local", "shm", "cma", "stream", "hixl", "staged"));
}

TEST(NoThreads, are_named_where_an_engine_needs_them) {
  without_threads([] {
    const Status status = Engine::create({}).status();
    EXPECT_THAT(status, FailsWith(Code::kOutOfMemory));
    EXPECT_THAT(status.message(), HasSubstr("thread"));
  });
}

TEST(NoThreads, to_close_an_engine_that_was_let_go_are_waited_for) {
  const OwnEngine reader;
  std::optional<Engine> engine = Engine::create({}).value();
  const Peer peer = reader->connect(engine->descriptor(), kConnect).value();
  without_threads([&] { engine.reset(); });
  EXPECT_TRUE(eventually([&] { return reader->stats().links == 0; }));
}

}  // namespace
}  // namespace ray_hixl::test
