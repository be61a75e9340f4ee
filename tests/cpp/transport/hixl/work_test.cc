// How much is done for a fetch, and for none: by what the FAKE HIXL counts, and by what the kernel does.
#include <thread>

#include "support/proxy.h"
#include "support/tasks.h"
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

class HixlWork : public HixlProcesses {
 protected:
  // Calls of HIXL's methods since the last time, but polls.
  std::map<std::string, std::uint64_t> calls() {
    std::map<std::string, std::uint64_t> since;
    for (const char* name : {"Initialize", "Finalize", "RegisterMem", "DeregisterMem", "Connect", "Disconnect", "TransferAsync",
                             "TransferSync", "SendNotify", "GetNotifies"}) {
      const std::uint64_t now = fake_count(name);
      if (now != seen[name]) since[name] = now - std::exchange(seen[name], now);
    }
    return since;
  }
  using Calls = std::map<std::string, std::uint64_t>;

  std::map<std::string, std::uint64_t> seen;
  PeerProcess owner;
};

TEST_F(HixlWork, of_a_fetch_is_one_transfer_and_no_message) {
  const std::vector<std::uint64_t> sizes(200, 70000);
  const Bytes first = owner.publish(sizes, 1, SourceMemory::kSlab);
  const Bytes second = owner.publish(sizes, 2, SourceMemory::kDevice);
  // Room for all of them: on a busy machine what was freed may be usable too late for the next one.
  ASSERT_THAT((*consumer)->reserve(kPeerDevice, 128 * kMiB), IsOk());
  expect_fetched(first, sizes, 1);
  (void)calls();
  owner.pause();  // it could not answer anything
  for (int round = 0; round < 3; ++round) {
    expect_fetched(first, sizes, 1);
    expect_fetched(second, sizes, 2);
  }
  owner.resume();
  EXPECT_EQ(calls(), (Calls{{"TransferAsync", 6}}));
  EXPECT_EQ(owner.fake_count("RegisterMem"), 1u) << "nothing is registered for an object";
}

TEST_F(HixlWork, of_many_ops_is_a_transfer_for_each_4096) {
  constexpr std::uint64_t kOps = 2 * 4096 + 1;
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(kOps * 64, 1, SourceMemory::kSlab)).value();
  const Region local = make_region(**consumer, kOps * 64, 99, SourceMemory::kSlab, kPeerDevice);
  std::vector<BatchOp> ops;
  for (std::uint64_t i = 0; i < kOps; ++i) ops.push_back({local, i * 64, remote, (kOps - 1 - i) * 64, 64});
  const Batch batch = peer.prepare(ops).value();
  ASSERT_THAT(peer.read(batch, kRead), IsOk());
  (void)calls();
  const std::uint64_t moved = fake_count("ops");
  ASSERT_THAT(peer.read(batch, kRead), IsOk());
  EXPECT_EQ(calls(), (Calls{{"TransferAsync", 3}}));
  EXPECT_EQ(fake_count("ops") - moved, kOps);
  EXPECT_TRUE(holds_pattern(local, 0, 64, 1, (kOps - 1) * 64));
}

TEST_F(HixlWork, of_an_object_is_few_ops) {
  const std::vector<std::uint64_t> sizes(9000, 3000);
  const Bytes packed = owner.publish(sizes, 1, SourceMemory::kDevice);
  const std::uint64_t moved = fake_count("ops");
  expect_fetched(packed, sizes, 1);
  EXPECT_LE(fake_count("ops") - moved, 9000u * 3072 / (8 * kMiB) + 1) << "neighbours on both sides, in runs of 8 MiB";
}

TEST_F(HixlWork, of_an_object_of_blocks_of_their_own_is_few_ops) {
  const std::vector<std::uint64_t> sizes(900, 40000);
  const Bytes packed = owner.publish(sizes, 1, SourceMemory::kDevice);
  const std::uint64_t moved = fake_count("ops");
  expect_fetched(packed, sizes, 1);
  EXPECT_LE(fake_count("ops") - moved, 900u * 40448 / (8 * kMiB) + 1);
}

TEST_F(HixlWork, of_recycling_what_was_kept_in_part_is_no_new_slab) {
  const std::vector<std::uint64_t> sizes(500, 32768);
  const Bytes packed = owner.publish(sizes, 1, SourceMemory::kDevice);
  std::vector<FetchedTensor> kept;
  const auto grows = [&] {
    const std::uint64_t before = device().slabs.segments;
    kept.clear();
    for (int i = 0; i < 40; ++i) kept.push_back(fetch(consumer->objects(), packed).value()[250]);
    return device().slabs.segments > before;
  };
  (void)grows();  // from none
  EXPECT_TRUE(eventually([&] { return device().slabs.used_bytes == 40 * 32768; })) << device().slabs.used_bytes;
  EXPECT_TRUE(eventually([&] { return !grows(); }))
      << "on a busy machine what was freed may be usable too late for one of them, not for ever";
}

TEST_F(HixlWork, of_a_fetch_from_another_host_is_one_question) {
  const Bytes object = over_tcp(owner.publish({4096, 100}, 1, SourceMemory::kSlab));
  const Metadata decoded = Metadata::decode(object).value();
  control::EngineDescriptor engine = control::decode_engine(decoded.engine()).value();
  const Proxy proxy(engine.tcp_port);
  engine.tcp_port = proxy.port();
  const Bytes by_proxy = control::encode(engine);
  const Bytes metadata =
      encode_metadata({by_proxy, decoded.handle(), decoded.layouts(), decoded.runs(), decoded.error(), decoded.placements()});
  expect_fetched(metadata, {4096, 100}, 1);
  for (int round = 0; round < 3; ++round) {
    const std::uint64_t before = proxy.client_spoke();
    expect_fetched(metadata, {4096, 100}, 1);
    EXPECT_EQ(proxy.client_spoke() - before, 1u) << "is it still live?";
  }
}

TEST_F(HixlWork, is_none_while_nothing_is_fetched) {
  expect_served(owner);
  ASSERT_FALSE(threads_named("hixl-npu-1").empty());
  std::uint64_t sleeps = 0;
  const auto stays_asleep = [&] {
    const std::uint64_t before = sleeps_of("hixl-npu") + sleeps_of("hixl-npu", owner.pid()) + sleeps_of("hixl-conn");
    std::this_thread::sleep_for(200ms);  // the time that is looked at
    sleeps = sleeps_of("hixl-npu") + sleeps_of("hixl-npu", owner.pid()) + sleeps_of("hixl-conn") - before;
    return sleeps == 0;
  };
  EXPECT_TRUE(eventually(stays_asleep)) << sleeps << " in 200 ms";
  const std::uint64_t calls = fake_count("GetTransferStatus") + fake_count("GetTransferStatusBatch");
  std::this_thread::sleep_for(50ms);  // likewise
  EXPECT_EQ(fake_count("GetTransferStatus") + fake_count("GetTransferStatusBatch"), calls);
}

// The memory that was registered before a link was made needs no other link, whatever the order in which it is read.
TEST_F(HixlWork, of_reading_memory_that_was_there_before_the_link_is_one_connect) {
  std::vector<Bytes> regions;
  for (std::uint64_t seed = 0; seed < 3; ++seed) regions.push_back(owner.add_region(4096, seed, SourceMemory::kDevice));
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const Region local = make_region(**consumer, 4096, 99, SourceMemory::kSlab, kPeerDevice);
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    ASSERT_THAT(peer.read(whole(peer, local, peer.region(regions[seed]).value()), kRead), IsOk());
    EXPECT_TRUE(holds_pattern(local, seed));
  }
  EXPECT_EQ(device().connects, 1u);
  EXPECT_EQ(device().refreshes, 0u);
}

}  // namespace
}  // namespace ray_hixl::test
