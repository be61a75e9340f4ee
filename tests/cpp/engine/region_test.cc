#include <semaphore>
#include <thread>

#include "support/engines.h"
#include "support/eventually.h"

namespace ray_hixl::test {
namespace {

std::byte* at(std::uintptr_t address) { return reinterpret_cast<std::byte*>(address); }

TEST(Region, shows_the_range_it_was_registered_with) {
  const OwnEngine engine;
  Bytes memory(100);
  const Region region = engine->register_memory({memory.data(), 100}, true, nullptr).value();
  EXPECT_EQ(region.range().address, memory.data());
  EXPECT_EQ(region.range().length, 100u);
  EXPECT_TRUE(region.is_open());
  EXPECT_EQ(engine->stats().regions, 1u);
}

TEST(Region, refuses_ranges_that_cannot_be) {
  const OwnEngine engine;
  EXPECT_THAT(engine->register_memory({nullptr, 1}, false, nullptr).status(), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(engine->register_memory({at(~std::uintptr_t{0} - 10), 100}, false, nullptr).status(), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(engine->register_memory({at(4096), 1, MemoryKind::kDevice, 0}, false, nullptr).status(), FailsWith(Code::kNotAvailable));
  EXPECT_EQ(engine->stats().regions, 0u);
}

TEST(Region, may_be_empty) {
  const OwnEngine engine;
  const Region registered = engine->register_memory({}, false, nullptr).value();
  const Region allocated = engine->allocate(0).value();
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  EXPECT_EQ(peer.region(registered.descriptor())->length, 0u);
  EXPECT_THAT(peer.read(whole(peer, allocated, peer.region(registered.descriptor()).value()), kRead), IsOk());
}

TEST(Region, travels_as_a_descriptor) {
  const OwnEngine engine;
  const Region region = engine->register_memory({at(4096), 100}, true, nullptr).value();
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(region.descriptor()).value();
  EXPECT_EQ(remote.length, 100u);
  EXPECT_EQ(remote.kind, MemoryKind::kHost);
  EXPECT_TRUE(remote.remote_write);
}

TEST(Region, descriptor_that_is_garbage_cut_or_foreign_is_refused) {
  const OwnEngine engine;
  const OwnEngine other;
  const Peer peer = engine->connect(other->descriptor(), kConnect).value();
  const Bytes good = add_region(*other, 10, 1).descriptor();
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_THAT(peer.region(std::span(good).first(length)).status(), FailsWith(Code::kInvalidRegion)) << length;
  }
  EXPECT_THAT(peer.region(make_pattern(good.size(), 3)).status(), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(peer.region(add_region(*engine, 10, 1).descriptor()).status(), FailsWith(Code::kInvalidRegion));
}

TEST(Region, keeps_its_owner_until_closed_and_drops_it_on_another_thread) {
  struct Owner {
    std::binary_semaphore& gone;
    std::thread::id& where;
    ~Owner() {
      where = std::this_thread::get_id();
      gone.release();
    }
  };
  const OwnEngine engine;
  std::binary_semaphore gone{0};
  std::thread::id where;
  const Region region = engine->register_memory({}, false, std::make_shared<Owner>(gone, where)).value();
  const Region copy = region;
  EXPECT_FALSE(gone.try_acquire());
  copy.close();
  EXPECT_TRUE(gone.try_acquire_for(kRead));
  EXPECT_NE(where, std::this_thread::get_id());
  EXPECT_FALSE(region.is_open());
  EXPECT_EQ(engine->stats().regions, 0u);
}

TEST(Region, is_closed_by_its_last_handle) {
  const OwnEngine engine;
  std::optional<Region> region = add_region(*engine, 10, 1);
  std::optional<Region> copy = region;
  region.reset();
  EXPECT_TRUE(copy->is_open());
  copy.reset();
  EXPECT_EQ(engine->stats().regions, 0u);
}

TEST(Region, allocated_memory_is_recycled_once_closed) {
  const OwnEngine engine;
  std::optional<Region> region = engine->allocate(1 << 20).value();
  EXPECT_EQ(engine->stats().source.live_blocks, 1u);
  region.reset();
  EXPECT_TRUE(eventually([&] { return engine->stats().source.live_blocks == 0; }));  // the reaper gives it back
  EXPECT_TRUE(engine->allocate(1 << 20).is_ok());
  EXPECT_EQ(engine->stats().source.recycled, 1u);
}

TEST(Region, allocated_memory_outlives_the_engine) {
  std::optional<Region> region;
  {
    const OwnEngine engine;
    region = engine->allocate(1 << 20).value();
    fill_pattern(bytes_of(*region), 4);
  }
  EXPECT_TRUE(is_pattern(bytes_of(*region), 4));
}

TEST(Region, more_memory_than_there_is_gives_an_error) {
  const OwnEngine engine;
  EXPECT_THAT(engine->allocate(std::uint64_t{1} << 60).status(), FailsWith(Code::kOutOfMemory));
}

// A transfer that stands still while its destination is closed.
TEST(Region, is_unused_once_no_transfer_writes_to_it_any_more) {
  PeerProcess process("stream");
  const OwnEngine engine({"stream"});
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(process.add_region(8 << 20, 1)).value();
  Bytes memory(8 << 20);
  const Region local = engine->register_memory({memory.data(), memory.size()}, false, nullptr).value();
  const auto start = [&] { return peer.read_async(whole(peer, local, remote), kRead); };
  ASSERT_TRUE(start().wait());
  process.pause();
  const Transfer transfer = start();
  EXPECT_FALSE(local.wait_unused(0ms)) << "it is open";
  local.close();
  EXPECT_FALSE(local.wait_unused(50ms)) << "the transfer may still write";
  EXPECT_FALSE(transfer.done());
  transfer.cancel();
  ASSERT_TRUE(transfer.wait());
  EXPECT_TRUE(local.wait_unused(5s));
  EXPECT_TRUE(local.wait_unused(0ms));
  process.resume();
}

TEST(Region, keeps_its_owner_until_it_is_unused) {
  const OwnEngine engine;
  auto memory = std::make_shared<Bytes>(4096);
  const std::weak_ptr<Bytes> watch = memory;
  const MemoryRange range{memory->data(), memory->size()};
  const Region region = engine->register_memory(range, false, std::move(memory)).value();
  region.close();
  EXPECT_TRUE(region.wait_unused(5s));
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace ray_hixl::test
