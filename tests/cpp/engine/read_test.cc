#include <barrier>
#include <thread>

#include "support/engines.h"

namespace ray_hixl::test {
namespace {

using testing::ElementsAre;

class ReadFromStoppedProcess : public testing::Test {
 protected:
  PeerProcess process{"stream"};
  const OwnEngine engine{{"stream"}};
  const Bytes descriptor = process.descriptor();
  const Peer peer = engine->connect(descriptor, kConnect).value();
  const Region local = engine->allocate(1 << 20).value();
  const RemoteRegion remote = peer.region(process.add_region(1 << 20, 1)).value();
  const Batch batch = whole(peer, local, remote);
};

TEST_F(ReadFromStoppedProcess, ends_at_its_deadline) {
  ASSERT_THAT(peer.read(batch, kRead), IsOk());
  process.pause();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_THAT(peer.read(batch, 200ms), FailsWith(Code::kTransferTimeout));
  EXPECT_GE(std::chrono::steady_clock::now() - start, 200ms);
  EXPECT_LT(std::chrono::steady_clock::now() - start, scaled(5s));
  process.resume();
  EXPECT_THAT(peer.read(batch, kRead), IsOk());
}

TEST_F(ReadFromStoppedProcess, goes_on_when_only_the_waiting_ends) {
  process.pause();
  const Transfer transfer = peer.read_async(batch, kRead);
  EXPECT_FALSE(transfer.wait(10ms));
  EXPECT_FALSE(transfer.done());
  process.resume();
  EXPECT_TRUE(transfer.wait());
  EXPECT_THAT(transfer.result(), IsOk());
}

TEST_F(ReadFromStoppedProcess, can_be_cancelled) {
  process.pause();
  const Transfer transfer = peer.read_async(batch, kRead);
  transfer.cancel();
  ASSERT_TRUE(transfer.wait(kConnect));
  EXPECT_THAT(transfer.result(), FailsWith(Code::kCancelled));
  transfer.cancel();
  EXPECT_THAT(transfer.result(), FailsWith(Code::kCancelled));
  EXPECT_EQ(engine->stats().transfers_in_flight, 0u);
}

TEST_F(ReadFromStoppedProcess, ends_when_the_peer_is_closed_or_dropped_but_the_link_serves_others) {
  std::optional<Peer> other = engine->connect(descriptor, kConnect).value();
  const Peer stays = engine->connect(descriptor, kConnect).value();
  process.pause();
  const Transfer closed = peer.read_async(batch, kRead);
  const Transfer dropped = other->read_async(batch, kRead);
  const Transfer goes_on = stays.read_async(batch, kRead);
  peer.close();
  other.reset();
  ASSERT_TRUE(closed.wait(kConnect));
  ASSERT_TRUE(dropped.wait(kConnect));
  EXPECT_THAT(closed.result(), FailsWith(Code::kClosed));
  EXPECT_THAT(dropped.result(), FailsWith(Code::kClosed));
  EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kClosed));
  process.resume();
  ASSERT_TRUE(goes_on.wait());
  EXPECT_THAT(goes_on.result(), IsOk());
}

TEST_F(ReadFromStoppedProcess, ends_when_the_engine_is_closed) {
  process.pause();
  const Transfer transfer = peer.read_async(batch, kRead);
  engine->close();
  ASSERT_TRUE(transfer.done());
  EXPECT_THAT(transfer.result(), FailsWith(Code::kClosed));
  EXPECT_EQ(engine->stats().transfers_in_flight, 0u);
}

TEST_F(ReadFromStoppedProcess, keeps_the_memory_of_a_local_region_that_is_closed_meanwhile) {
  auto memory = std::make_shared<Bytes>(1 << 20);
  const std::weak_ptr<Bytes> watch = memory;
  const Region closed_early = engine->register_memory({memory->data(), memory->size()}, false, memory).value();
  process.pause();
  Transfer transfer = peer.read_async(whole(peer, closed_early, remote), kRead);
  memory.reset();
  closed_early.close();
  EXPECT_FALSE(watch.expired());
  const auto bytes = watch.lock();
  process.resume();
  ASSERT_TRUE(transfer.wait());
  EXPECT_THAT(transfer.result(), IsOk());
  EXPECT_TRUE(is_pattern(*bytes, 1));
}

TEST(Read, of_two_kinds_of_memory_brings_both_each_time) {
  PeerProcess process;
  const OwnEngine engine;
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  const RemoteRegion arena = peer.region(process.add_region(4096, 1, SourceMemory::kArena)).value();
  const RemoteRegion ordinary = peer.region(process.add_region(4096, 2)).value();
  const Region local = engine->allocate(8192).value();
  const Batch batch = peer.prepare(std::vector<BatchOp>{{local, 0, arena, 0, 4096}, {local, 4096, ordinary, 0, 4096}}).value();
  for (int round = 0; round < 3; ++round) {
    fill_pattern(bytes_of(local), 99);
    ASSERT_THAT(peer.read(batch, kRead), IsOk());
    EXPECT_TRUE(is_pattern(bytes_of(local).first(4096), 1));
    EXPECT_TRUE(is_pattern(bytes_of(local).last(4096), 2));
  }
}

TEST(Read, of_an_empty_batch_succeeds_at_once) {
  PeerProcess process;
  const OwnEngine engine;
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  const Batch nothing = peer.prepare(std::span<const BatchOp>{}).value();
  process.pause();
  const Transfer transfer = peer.read_async(nothing, 0s);
  EXPECT_TRUE(transfer.done());
  EXPECT_THAT(transfer.result(), IsOk());
  EXPECT_TRUE(transfer.bytes_by_transport().empty());
}

TEST(Read, within_one_engine_copies) {
  const OwnEngine engine;
  const Region from = add_region(*engine, 3 << 20, 1);
  const Region to = add_region(*engine, 3 << 20, 2);
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  const Transfer transfer = peer.read_async(whole(peer, to, peer.region(from.descriptor()).value()), kRead);
  ASSERT_TRUE(transfer.wait());
  EXPECT_THAT(transfer.result(), IsOk());
  EXPECT_TRUE(is_pattern(bytes_of(to), 1));
  EXPECT_THAT(names(transfer.bytes_by_transport()), ElementsAre("local"));
}

TEST(Read, takes_overlapping_destinations) {
  const OwnEngine engine;
  const Region from = add_region(*engine, 1 << 20, 1);
  const Region to = add_region(*engine, 2 << 20, 2);
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(from.descriptor()).value();
  const Batch batch = peer.prepare(std::vector<BatchOp>{{to, 0, remote, 0, 4096}, {to, 1024, remote, 0, 4096}}).value();
  EXPECT_THAT(peer.read(batch, kRead), IsOk());
  EXPECT_TRUE(is_pattern(bytes_of(to).first(1024), 1));                       // not overlapped
  EXPECT_TRUE(is_pattern(bytes_of(to).subspan(4096, 1024), 1, 4096 - 1024));  // nor here
  EXPECT_TRUE(is_pattern(bytes_of(to).subspan(5120), 2, 5120));
}

TEST(Read, by_many_threads_over_one_link) {
  constexpr int kThreads = 6;
  PeerProcess process;
  const OwnEngine engine;
  const Bytes descriptor = process.descriptor();
  std::vector<Bytes> shown;
  for (int i = 0; i < kThreads; ++i) {
    shown.push_back(i % 2 == 0 ? process.add_region(100000, static_cast<std::uint64_t>(i))
                               : process.add_region(100000, static_cast<std::uint64_t>(i), SourceMemory::kArena));
  }
  std::barrier start(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      const Peer peer = engine->connect(descriptor, kConnect).value();
      const Region local = engine->allocate(100000).value();
      const Batch batch = whole(peer, local, peer.region(shown[static_cast<std::size_t>(i)]).value());
      for (int n = 0; n < 30; ++n) {
        fill_pattern(bytes_of(local), 77);
        ASSERT_THAT(peer.read(batch, kRead), IsOk());
        ASSERT_TRUE(is_pattern(bytes_of(local), static_cast<std::uint64_t>(i)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine->stats().links, 1u);
  EXPECT_EQ(engine->stats().quarantined_bytes, 0u);
  EXPECT_EQ(engine->stats().transfers_in_flight, 0u);
}

}  // namespace
}  // namespace ray_hixl::test
