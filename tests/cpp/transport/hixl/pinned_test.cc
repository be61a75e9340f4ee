// Host memory that HIXL moves: allocated by the runtime of an NPU, registered with the engine there, and read from and into like the NPU's.
#include "engine/region_impl.h"
#include "support/child.h"
#include "transport/hixl/cann/settings.h"
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Key;
using testing::Pair;

class PinnedMemory : public HixlProcesses {
 protected:
  [[nodiscard]] Region pinned(std::uint64_t bytes) const { return (*consumer)->allocate(bytes, MemoryKind::kPinned, kPeerDevice).value(); }
};

TEST_F(PinnedMemory, is_host_memory_that_hixl_knows) {
  const Region region = pinned(5000);
  EXPECT_EQ(region.range().kind, MemoryKind::kPinned);
  EXPECT_EQ(region.range().device, kPeerDevice);
  EXPECT_EQ(region.range().length, 5000u);
  region.range().address[4999] = std::byte{7};  // the CPU reaches it
  EXPECT_TRUE((*consumer)->is_registered(region.range()));
  EXPECT_EQ(device().registrations, 2u);
  EXPECT_EQ(device().unpinned, "");
  const RemoteRegion described = control::decode_region(region.descriptor()).value();
  EXPECT_EQ(described.kind, MemoryKind::kPinned);
  EXPECT_EQ(described.device, kPeerDevice);
}

TEST_F(PinnedMemory, goes_back_when_nobody_has_it_any_more) {
  const std::uint64_t regions = [&] {
    const Region first = pinned(4096);
    return fake_count("regions");
  }();
  EXPECT_TRUE(eventually([&] { return fake_count("regions") == regions - 1; }));
  EXPECT_EQ(device().unused_bytes, 0u);
}

TEST_F(PinnedMemory, outlives_the_engine) {
  const Region region = pinned(4096);
  consumer.reset();
  fill(region.range(), 3);
  EXPECT_TRUE(holds_pattern(region.range(), 3));
}

// Whoever registers it again has it as pinned for as long as he likes, and as host memory where it is none of HIXL's any more.
TEST_F(PinnedMemory, stays_so_for_a_region_that_shows_it_again) {
  PeerProcess owner;
  const Region first = pinned(kMiB);
  const Region second = (*consumer)->register_memory(first.range(), false, std::make_shared<Region>(first)).value();
  first.close();
  ASSERT_TRUE(first.wait_unused(kRead));
  EXPECT_EQ(second.range().kind, MemoryKind::kPinned);
  EXPECT_EQ(device().registrations, 2u);
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(kMiB, 1, SourceMemory::kPinned)).value();
  const Transfer transfer = peer.read_async(prepare_one(peer, {second, 0, remote, 0, kMiB}).value(), kRead);
  ASSERT_TRUE(transfer.wait());
  EXPECT_THAT(transfer.result(), IsOk());
  EXPECT_THAT(names(transfer.bytes_by_transport()), ElementsAre("hixl"));
}

TEST_F(PinnedMemory, is_host_memory_once_its_registration_is_gone) {
  const Region first = pinned(kMiB);  // has the memory, though not the registration, until the end
  first.close();
  ASSERT_TRUE(eventually([&] { return device().registrations == 1; }));
  const Region second = (*consumer)->register_memory(first.range(), false, nullptr).value();
  EXPECT_EQ(second.range().kind, MemoryKind::kHost);
  EXPECT_EQ(control::decode_region(second.descriptor())->kind, MemoryKind::kHost);
}

// The parent's runtime, which has it.
TEST_F(PinnedMemory, is_left_to_the_parent_by_a_forked_child) {
  std::optional<Region> region = pinned(3 * kMiB);
  const MemoryRange range = region->range();
  fill(range, 3);
  region->close();
  ASSERT_TRUE(eventually([&] { return device().registrations == 1 && device().unused_bytes == 0; }));
  EXPECT_TRUE(in_child([&] {
    region.reset();
    return holds_pattern(range, 3);
  }));
  EXPECT_TRUE(holds_pattern(range, 3));
}

// KV caches that are loaded off: what an object has on NPUs comes right into memory of the host.
TEST_F(PinnedMemory, is_a_target_of_fetches) {
  PeerProcess owner;
  const Region target = pinned(3 * kMiB);
  const MemoryRange part{target.range().address + 64, kMiB};
  const Bytes object = owner.publish({kMiB}, 5, SourceMemory::kSlab);
  const Fetch fetch = consumer->objects().fetch(object, {&part, 1}, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  EXPECT_THAT(fetch.transfer().result(), IsOk());
  EXPECT_TRUE(holds_pattern(part, 5));
  EXPECT_THAT(names(fetch.transfer().bytes_by_transport()), ElementsAre("hixl"));
}

TEST_F(PinnedMemory, goes_by_hixl_where_both_sides_know_it_and_path_says_so) {
  PeerProcess owner;
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion pinned_there = peer.region(owner.add_region(kMiB, 1, SourceMemory::kPinned)).value();
  const RemoteRegion slab_there = peer.region(owner.add_region(kMiB, 1, SourceMemory::kSlab)).value();
  EXPECT_EQ(peer.path(MemoryKind::kPinned, pinned_there)->transport, "hixl");
  EXPECT_EQ(peer.path(MemoryKind::kDevice, pinned_there)->transport, "hixl");
  EXPECT_EQ(peer.path(MemoryKind::kPinned, slab_there)->transport, "hixl");
  EXPECT_EQ(peer.path(MemoryKind::kHost, pinned_there)->transport, "cma") << "host memory as any other";
  EXPECT_EQ(peer.path(MemoryKind::kHost, slab_there)->transport, "") << "staged is not allowed";
}

// The other ways of host memory are better than an error.
TEST_F(PinnedMemory, goes_as_host_memory_where_hixl_does_not_link) {
  for (const bool staged : {true, false}) {
    const Options options = staged ? Options{} : without_staged();
    PeerProcess owner(staged ? "shm,cma,stream,hixl,staged" : "shm,cma,stream,hixl");
    const OwnEngine reader(options);
    const Peer peer = reader->connect(owner.descriptor(), kConnect).value();
    const RemoteRegion remote = peer.region(owner.add_region(kMiB, 1, SourceMemory::kPinned)).value();
    const Region local = reader->allocate(kMiB, MemoryKind::kPinned, kPeerDevice).value();
    const FakeSwitch refuses("FAKE_HIXL_REFUSE_CONNECT", "3");
    const Batch batch = prepare_one(peer, {local, 0, remote, 0, kMiB}).value();
    for (int i = 0; i < 2; ++i) {  // found out, and remembered
      fill(local.range(), 0);
      const Transfer transfer = peer.read_async(batch, kRead);
      ASSERT_TRUE(transfer.wait());
      EXPECT_THAT(transfer.result(), IsOk());
      EXPECT_THAT(names(transfer.bytes_by_transport()), ElementsAre("cma"));
      EXPECT_TRUE(holds_pattern(local.range(), 1));
    }
    const PathInfo path = peer.path(MemoryKind::kPinned, MemoryKind::kPinned).value();
    EXPECT_EQ(path.transport, "cma");
    EXPECT_THAT(path.refused, Contains(Pair("hixl", HasSubstr("FAILED (503900)"))));
  }
}

TEST_F(PinnedMemory, is_tried_again_at_once_where_only_hixl_moves_it) {
  const OwnEngine reader(std::vector<std::string>{"hixl"});
  PeerProcess owner("hixl");
  const Peer peer = reader->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(kMiB, 1, SourceMemory::kPinned)).value();
  const Region local = reader->allocate(kMiB, MemoryKind::kPinned, kPeerDevice).value();
  const Batch batch = whole(peer, local, remote);
  {
    const FakeSwitch refuses("FAKE_HIXL_REFUSE_CONNECT", "100");
    EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kConnectError));
    EXPECT_EQ(peer.path(MemoryKind::kPinned, remote)->transport, "hixl");
  }
  EXPECT_THAT(peer.read(batch, kRead), IsOk());
  EXPECT_TRUE(holds_pattern(local.range(), 1));
}

// Such as one that replaces its engine. Its memory is there all the same, for who needs nothing of it.
TEST_F(PinnedMemory, goes_as_host_memory_where_the_peer_does_not_tell_of_its_engine) {
  PeerProcess owner("cma,hixl");
  const OwnEngine reader({"cma", "hixl"});
  const Peer peer = reader->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(kMiB, 1, SourceMemory::kPinned)).value();
  const Region local = reader->allocate(kMiB, MemoryKind::kPinned, kPeerDevice).value();
  const Region host = reader->allocate(kMiB).value();
  ASSERT_THAT(peer.read(whole(peer, host, remote), kRead), IsOk());  // has its addresses from then on
  const Batch batch = whole(peer, local, remote);
  owner.pause();
  const Transfer transfer = peer.read_async(batch, scaled(2s));
  ASSERT_TRUE(transfer.wait());
  EXPECT_THAT(transfer.result(), IsOk());
  EXPECT_THAT(names(transfer.bytes_by_transport()), ElementsAre("cma"));
  EXPECT_TRUE(holds_pattern(local.range(), 1));
}

// The batch fails, since memory of NPUs has no other way. The next one need not fail for the pinned part.
TEST_F(PinnedMemory, goes_otherwise_after_a_batch_that_could_not) {
  PeerProcess owner("shm,cma,stream,hixl");
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const Region host = pinned(kMiB);
  const Region npu = (*consumer)->allocate(kMiB, MemoryKind::kDevice, kPeerDevice).value();
  const std::vector<BatchOp> ops{{host, 0, peer.region(owner.add_region(kMiB, 1, SourceMemory::kPinned)).value(), 0, kMiB},
                                 {npu, 0, peer.region(owner.add_region(kMiB, 2, SourceMemory::kSlab)).value(), 0, kMiB}};
  const Batch batch = peer.prepare(ops).value();
  {
    const FakeSwitch refuses("FAKE_HIXL_REFUSE_CONNECT", "100");
    EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kConnectError));
  }
  const Transfer transfer = peer.read_async(batch, kRead);
  ASSERT_TRUE(transfer.wait());
  EXPECT_THAT(transfer.result(), IsOk());
  EXPECT_THAT(names(transfer.bytes_by_transport()), testing::UnorderedElementsAre("cma", "hixl"));
}

TEST_F(PinnedMemory, is_ordinary_where_hixl_does_not_take_it) {
  const OwnEngine without({"cma", "stream", "staged"});
  const Region region = without->allocate(4096, MemoryKind::kPinned, kPeerDevice).value();
  EXPECT_EQ(region.range().kind, MemoryKind::kHost);
  EXPECT_EQ(region.range().device, 0);
  EXPECT_THAT(without->stats().devices.front().unpinned, HasSubstr("Options.transports does not allow hixl"));
  const OwnEngine reader({"cma"});
  const Peer peer = reader->connect(without->descriptor(), kConnect).value();
  const Region local = reader->allocate(4096).value();
  fill(region.range(), 9);
  EXPECT_THAT(peer.read(prepare_one(peer, {local, 0, peer.region(region.descriptor()).value(), 0, 4096}).value(), kRead), IsOk());
  EXPECT_TRUE(holds_pattern(local.range(), 9));
}

// What HIXL takes between two engines of one server or of two, by chip and settings.
TEST_F(PinnedMemory, is_not_reached_over_hccs) {
  using namespace transport::hixl;
  Cann cann = *Cann::get();
  Options options;
  options.host = "10.0.0.1";
  const auto reaches = [&](bool there, const char* peer) { return Settings::of(cann, options)->reach_host_memory(there, peer).is_ok(); };
  cann.soc = "Ascend910B3";
  EXPECT_FALSE(reaches(false, "10.0.0.1:5"));
  EXPECT_FALSE(reaches(true, "10.0.0.1:5"));
  EXPECT_TRUE(reaches(true, "10.0.0.2:5")) << "RoCE, between two servers";
  options.host = "fd00::1";
  EXPECT_FALSE(reaches(true, "[fd00::1]:5"));
  EXPECT_TRUE(reaches(true, "[fd00::2]:5"));
  options.host = "10.0.0.1";
  cann.soc = "Ascend910_9391";
  EXPECT_TRUE(reaches(false, "10.0.0.1:5"));
  EXPECT_FALSE(reaches(true, "10.0.0.1:5"));
  EXPECT_FALSE(reaches(true, "10.0.0.2:5")) << "it may be of the same super-pod";
  options.hixl_protocol_desc = {"roce:device"};
  EXPECT_TRUE(reaches(true, "10.0.0.1:5"));
  cann.soc = "Ascend950PR_9599";
  options.hixl_protocol_desc = {"auto"};
  EXPECT_TRUE(reaches(true, "10.0.0.1:5"));
}

}  // namespace
}  // namespace ray_hixl::test
