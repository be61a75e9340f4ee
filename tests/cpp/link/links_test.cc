// Links between engines: made once, known to be dead, ended with everything that hangs on them.
#include <poll.h>
#include <sys/epoll.h>

#include <fstream>
#include <future>
#include <thread>

#include "control/descriptor.h"
#include "support/engines.h"
#include "support/eventually.h"
#include "support/few_descriptors.h"
#include "support/held_calls.h"
#include "support/raw_socket.h"

namespace ray_hixl::test {
namespace {

using testing::HasSubstr;

TEST(Links, are_shared_by_all_who_connect_at_once) {
  PeerProcess process;
  const OwnEngine engine;
  const Bytes descriptor = process.descriptor();
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::vector<Peer> peers;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      Peer peer = engine->connect(descriptor, kConnect).value();
      const std::lock_guard lock(mutex);
      peers.push_back(std::move(peer));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine->stats().links, 1u);
  EXPECT_EQ(process.stat("sessions"), 1u);
}

class LinkTo : public testing::TestWithParam<bool> {
 protected:
  [[nodiscard]] static Bytes seen(const Bytes& descriptor) { return GetParam() ? tcp_only(descriptor) : descriptor; }
};

TEST_P(LinkTo, a_process_that_dies_is_down_within_a_second_without_any_traffic) {
  const OwnEngine engine;
  auto process = std::make_unique<PeerProcess>();
  const Peer peer = engine->connect(seen(process->descriptor()), kConnect).value();
  ASSERT_EQ(engine->stats().links, 1u);
  process->kill();
  EXPECT_TRUE(eventually([&] { return engine->stats().links == 0; }, 1s));
  EXPECT_EQ(engine->stats().links_lost, 1u);
}

TEST_P(LinkTo, the_next_life_of_an_owner_is_another_peer) {
  const OwnEngine engine;
  auto process = std::make_unique<PeerProcess>();
  const Bytes first_life = seen(process->descriptor());
  const Peer first = engine->connect(first_life, kConnect).value();
  const RemoteRegion region = first.region(process->add_region(100, 1)).value();
  process = std::make_unique<PeerProcess>();
  const Peer second = engine->connect(seen(process->descriptor()), kConnect).value();
  const Region local = engine->allocate(100).value();
  const Bytes of_second = process->add_region(100, 2);
  EXPECT_THAT(second.region(engine->allocate(1)->descriptor()).status(), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(prepare_one(second, {local, 0, region, 0, 100}).status(), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(second.read(whole(second, local, second.region(of_second).value()), kRead), IsOk());
  EXPECT_TRUE(is_pattern(bytes_of(local), 2));
  EXPECT_THAT(engine->connect(first_life, kConnect).status(), FailsWith(Code::kPeerGone));
  const OwnEngine stranger;  // who never had a link to it cannot know that it was there
  EXPECT_THAT(stranger->connect(first_life, kConnect).status(), FailsWith(GetParam() ? Code::kConnectError : Code::kPeerGone));
}

TEST_P(LinkTo, an_owner_can_be_connected_to_again_and_again) {
  const OwnEngine owner;
  const OwnEngine engine;
  for (int round = 0; round < 3; ++round) {
    const Peer peer = engine->connect(seen(owner->descriptor()), kConnect).value();
    const Region local = engine->allocate(100).value();
    const Region shown = add_region(*owner, 100, 1);
    EXPECT_THAT(peer.read(whole(peer, local, peer.region(shown.descriptor()).value()), kRead), IsOk());
  }
  EXPECT_EQ(owner->stats().handshakes_refused, 0u);
}

INSTANTIATE_TEST_SUITE_P(Over, LinkTo, testing::Bool(), [](const auto& tcp) { return tcp.param ? "tcp" : "unix"; });

// Accepts connections and says nothing.
class SilentOwner {
 public:
  SilentOwner() : listener_(std::move(net::listen_tcp("127.0.0.1")).value()) {
    descriptor_.tcp_host = "127.0.0.1";
    descriptor_.tcp_port = net::local_port(listener_).value();
    descriptor_.incarnation[0] = std::byte{1};
  }
  [[nodiscard]] Bytes descriptor() const { return control::encode(descriptor_); }
  // `descriptor`, but with the address of this one.
  [[nodiscard]] Bytes in_place_of(const Bytes& descriptor) const {
    control::EngineDescriptor fields = control::decode_engine(descriptor).value();
    fields.unix_name.clear();
    fields.tcp_port = descriptor_.tcp_port;
    return control::encode(fields);
  }
  // Waits until somebody connects.
  [[nodiscard]] bool is_dialled() const {
    pollfd waiting{listener_.get(), POLLIN, 0};
    return ::poll(&waiting, 1, 10000) == 1;
  }

 private:
  const Fd listener_;
  control::EngineDescriptor descriptor_;
};

TEST(Connecting, to_a_silent_owner_ends_at_each_callers_deadline) {
  const SilentOwner owner;
  const OwnEngine engine;
  std::thread patient([&] {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THAT(engine->connect(owner.descriptor(), 600ms).status(), FailsWith(Code::kConnectError));
    EXPECT_GE(std::chrono::steady_clock::now() - start, 600ms);
  });
  const auto start = std::chrono::steady_clock::now();
  const Status status = engine->connect(owner.descriptor(), 100ms).status();
  EXPECT_THAT(status, FailsWith(Code::kConnectError));
  EXPECT_THAT(status.message(), HasSubstr("in time"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, scaled(500ms));
  patient.join();
}

TEST(Connecting, ends_when_the_engine_is_closed) {
  const SilentOwner owner;
  const OwnEngine engine;
  std::thread closer([&] {
    std::this_thread::sleep_for(50ms);
    engine->close();
  });
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(engine->connect(owner.descriptor(), kConnect).status(), FailsWith(Code::kClosed));
  EXPECT_LT(std::chrono::steady_clock::now() - start, scaled(5s));
  closer.join();
}

Bytes with_wrong_key(const Bytes& descriptor) {
  control::EngineDescriptor fields = control::decode_engine(descriptor).value();
  fields.key[31] ^= std::byte{1};
  return control::encode(fields);
}

TEST(Connecting, takes_the_key_whoever_is_connected_already) {
  const OwnEngine owner;
  const OwnEngine engine;
  const Peer peer = engine->connect(owner->descriptor(), kConnect).value();
  const Status refused = engine->connect(with_wrong_key(owner->descriptor()), kConnect).status();
  EXPECT_THAT(refused, FailsWith(Code::kConnectError));
  EXPECT_THAT(refused.message(), HasSubstr("key"));
  EXPECT_EQ(engine->stats().links, 1u);
  EXPECT_THAT(engine->connect(owner->descriptor(), kConnect).status(), IsOk());
}

TEST(Connecting, with_a_wrong_address_is_not_in_the_way_of_the_right_one) {
  const SilentOwner elsewhere;
  const OwnEngine owner;
  const OwnEngine engine;
  std::thread wrong(
      [&] { EXPECT_THAT(engine->connect(elsewhere.in_place_of(owner->descriptor()), 3s).status(), FailsWith(Code::kConnectError)); });
  ASSERT_TRUE(elsewhere.is_dialled());
  EXPECT_THAT(engine->connect(owner->descriptor(), 2s).status(), IsOk());
  EXPECT_THAT(engine->connect(owner->descriptor(), 2s).status(), IsOk());
  wrong.join();
  EXPECT_EQ(engine->stats().links, 1u);
}

TEST(Connecting, over_two_addresses_at_once_makes_one_link) {
  const OwnEngine owner;
  const OwnEngine engine;
  std::thread over_tcp([&] { EXPECT_THAT(engine->connect(tcp_only(owner->descriptor()), kConnect).status(), IsOk()); });
  EXPECT_THAT(engine->connect(owner->descriptor(), kConnect).status(), IsOk());
  over_tcp.join();
  EXPECT_TRUE(eventually([&] { return engine->stats().links == 1 && owner->stats().sessions == 1; }));
  EXPECT_EQ(engine->stats().links_lost, 0u);
}

TEST(WorseLink, without_the_generation_table_reads_over_stream_until_it_is_replaced) {
  PeerProcess process;
  const OwnEngine engine;
  const Region local = engine->allocate(100).value();
  const Bytes shown = process.add_region(100, 1);
  std::optional<FewDescriptors> few(1);  // the connection's own
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  few.reset();
  const RemoteRegion remote = peer.region(shown).value();
  EXPECT_EQ(peer.path(MemoryKind::kHost, remote)->transport, "stream");
  EXPECT_THAT(peer.read(whole(peer, local, remote), kRead), IsOk());
  EXPECT_TRUE(is_pattern(bytes_of(local), 1));
  EXPECT_TRUE(eventually([&] { return peer.path(MemoryKind::kHost, remote)->transport == "cma"; }, 20s));
  EXPECT_EQ(engine->stats().links_lost, 0u);
}

Options closing_idle_links() {
  Options options;
  options.idle_timeout_s = 0.1;
  return options;
}

class IdleLink : public testing::Test {
 protected:
  // Once it is closed, on both sides.
  [[nodiscard]] bool is_closed() {
    return eventually([&] { return engine->stats().links == 0; }) && eventually([&] { return process.stat("sessions") == 0; });
  }

  PeerProcess process;
  const OwnEngine engine{closing_idle_links()};
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  const Region local = engine->allocate(100).value();
  const RemoteRegion remote = peer.region(process.add_region(100, 1)).value();
  const Batch batch = whole(peer, local, remote);
};

TEST_F(IdleLink, is_opened_again_by_the_next_read) {
  for (int round = 0; round < 2; ++round) {
    EXPECT_THAT(peer.read(batch, kRead), IsOk());
    EXPECT_TRUE(is_pattern(bytes_of(local), 1));
    fill_pattern(bytes_of(local), 99);
    ASSERT_TRUE(is_closed());
  }
  EXPECT_EQ(engine->stats().links_lost, 0u);
}

TEST_F(IdleLink, is_opened_again_to_tell_the_path) {
  ASSERT_TRUE(is_closed());
  EXPECT_EQ(peer.path(MemoryKind::kHost, remote)->transport, "cma");
  ASSERT_TRUE(is_closed());
  EXPECT_EQ(peer.path(MemoryKind::kHost, MemoryKind::kHost)->transport, "cma");
}

TEST_F(IdleLink, to_an_owner_that_ended_meanwhile_cannot_be_opened_again) {
  ASSERT_TRUE(is_closed());
  process.kill();
  EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kPeerGone));
  EXPECT_THAT(peer.path(MemoryKind::kHost, remote).status(), FailsWith(Code::kPeerGone));
}

// The loop stands still where it takes the connection's end in.
TEST(Link, to_an_owner_that_ended_is_not_given_out_before_that_was_heard) {
  PeerProcess process;
  const Bytes descriptor = process.descriptor();
  std::optional<OwnEngine> engine;
  Event made;
  HeldCalls unwatches(SYS_epoll_ctl, EPOLL_CTL_DEL, [&] {
    engine.emplace();
    made.set();
  });
  ASSERT_TRUE(made.wait());
  std::future<Status> connected = std::async([&] { return (*engine)->connect(descriptor, kConnect).status(); });
  while (connected.wait_for(0s) != std::future_status::ready) {
    if (unwatches.comes(10ms)) unwatches.let_go();
  }
  ASSERT_THAT(connected.get(), IsOk());
  process.close_engine();
  ASSERT_TRUE(unwatches.comes());
  EXPECT_THAT((*engine)->connect(descriptor, kConnect).status(), FailsWith(Code::kPeerGone));
  unwatches.let_go();
}

std::size_t mappings_of(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find(name) != std::string::npos ? 1 : 0;
  return count;
}

TEST(RetiredSegments, are_let_go_by_their_readers) {
  Options keeps_nothing;
  keeps_nothing.transports = {"shm"};
  keeps_nothing.source_arena_bytes = 0;
  const OwnEngine owner(keeps_nothing);
  const OwnEngine engine({"shm"});
  const Peer peer = engine->connect(owner->descriptor(), kConnect).value();
  const Region local = engine->allocate(100).value();
  const std::size_t before = mappings_of("ray-hixl-source");
  std::optional<Batch> kept;
  {
    const Region shown = owner->allocate(100).value();
    fill_pattern(bytes_of(shown), 1);
    kept = whole(peer, local, peer.region(shown.descriptor()).value());
    for (int round = 0; round < 3; ++round) ASSERT_THAT(peer.read(*kept, kRead), IsOk());
    EXPECT_EQ(mappings_of("ray-hixl-source"), before + 2);  // the owner's and the reader's
  }
  EXPECT_TRUE(eventually([&] { return mappings_of("ray-hixl-source") == before; })) << "by those who could read again, too";
  EXPECT_THAT(peer.read(*kept, kRead), FailsWith(Code::kInvalidRegion));
}

}  // namespace
}  // namespace ray_hixl::test
