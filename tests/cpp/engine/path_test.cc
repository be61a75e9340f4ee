#include <sys/mman.h>

#include "base/fd.h"
#include "support/engines.h"
#include "support/forbidden_calls.h"

namespace ray_hixl::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::Key;
using testing::Not;
using testing::Pair;

TEST(Path, depends_on_the_memory_of_the_peer) {
  PeerProcess process;
  const OwnEngine engine;
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  EXPECT_EQ(peer.path(MemoryKind::kHost, MemoryKind::kHost)->transport, "cma");
  const RemoteRegion ordinary = peer.region(process.add_region(100, 1)).value();
  EXPECT_EQ(peer.path(MemoryKind::kHost, ordinary)->transport, "cma");
  const RemoteRegion arena = peer.region(process.add_region(100, 1, SourceMemory::kArena)).value();
  EXPECT_EQ(peer.path(MemoryKind::kHost, arena)->transport, "shm");
}

// A driver's memory looks like that to the kernel, too.
TEST(Path, of_what_the_kernel_reads_for_no_other_process_is_stream_once_that_was_found_out) {
  constexpr std::uint64_t kBytes = 2 << 20;  // more than is copied in the calling thread
  const auto secret = ray_hixl::Fd::make([] { return static_cast<int>(::syscall(SYS_memfd_secret, 0)); });
  if (!secret || ::ftruncate(secret.get(), kBytes) != 0) GTEST_SKIP() << "the kernel has no memfd_secret";
  void* const mapped = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, secret.get(), 0);
  if (mapped == MAP_FAILED) GTEST_SKIP() << "the limit of locked memory (ulimit -l) is too low";
  const std::shared_ptr<std::byte> memory(static_cast<std::byte*>(mapped), [](std::byte* base) { ::munmap(base, kBytes); });
  fill_pattern({memory.get(), kBytes}, 3);
  const OwnEngine owner;
  const OwnEngine engine({"cma", "stream"});
  const Peer peer = engine->connect(owner->descriptor(), kConnect).value();
  const Region shown = owner->register_memory({memory.get(), kBytes}, false, memory).value();
  const RemoteRegion remote = peer.region(shown.descriptor()).value();
  const Region local = engine->allocate(kBytes).value();
  EXPECT_EQ(peer.path(MemoryKind::kHost, remote)->transport, "cma");
  for (int i = 0; i < 2; ++i) {
    ASSERT_THAT(peer.read(whole(peer, local, remote), kRead), IsOk());
    EXPECT_THAT(names(engine->stats().fetched), testing::ElementsAre("stream"));
    EXPECT_TRUE(is_pattern(bytes_of(local), 3));
    const PathInfo path = peer.path(MemoryKind::kHost, remote).value();
    EXPECT_EQ(path.transport, "stream");
    EXPECT_THAT(path.refused, Contains(Pair("cma", HasSubstr("for the peer only"))));
  }
  EXPECT_EQ(peer.path(MemoryKind::kHost, MemoryKind::kHost)->transport, "cma");
}

TEST(Path, within_one_engine_is_local) {
  const OwnEngine engine;
  const Peer peer = engine->connect(engine->descriptor(), kConnect).value();
  EXPECT_EQ(peer.path(MemoryKind::kHost, MemoryKind::kHost)->transport, "local");
}

TEST(Path, says_why_the_others_were_not_taken) {
  PeerProcess process;
  const OwnEngine engine({"local", "shm", "stream"});
  const PathInfo info = engine->connect(process.descriptor(), kConnect)->path(MemoryKind::kHost, MemoryKind::kHost).value();
  EXPECT_EQ(info.transport, "stream");
  EXPECT_THAT(info.refused, AllOf(Contains(Key("local")), Contains(Key("shm")), Contains(Key("cma")), Not(Contains(Key("stream")))));
  EXPECT_THAT(info.refused, Contains(Pair("cma", testing::HasSubstr("Options.transports"))));
  EXPECT_THAT(info.refused, testing::Each(Pair(testing::_, Not(testing::IsEmpty()))));
}

TEST(Path, of_an_engine_without_memfds_is_another_one) {
  PeerProcess process;
  const Bytes shown = process.add_region(100, 1, SourceMemory::kArena);
  without_memfds([&] {
    const OwnEngine owner;
    const Region arena = owner->allocate(100).value();
    fill_pattern(bytes_of(arena), 2);
    const OwnEngine engine({"shm", "cma", "stream"});
    const Peer peer = engine->connect(owner->descriptor(), kConnect).value();
    const RemoteRegion remote = peer.region(arena.descriptor()).value();
    EXPECT_EQ(peer.path(MemoryKind::kHost, remote)->transport, "stream");
    const Region local = engine->allocate(100).value();
    EXPECT_THAT(peer.read(whole(peer, local, remote), kRead), IsOk());
    EXPECT_TRUE(is_pattern(bytes_of(local), 2));
    arena.close();
    EXPECT_THAT(peer.read(whole(peer, local, remote), kRead), FailsWith(Code::kInvalidRegion));
    // It maps the memory of those who have memfds.
    const Peer other = engine->connect(process.descriptor(), kConnect).value();
    EXPECT_EQ(other.path(MemoryKind::kHost, other.region(shown).value())->transport, "shm");
    EXPECT_THAT(other.read(whole(other, local, other.region(shown).value()), kRead), IsOk());
    EXPECT_TRUE(is_pattern(bytes_of(local), 1));
  });
}

TEST(Path, may_be_impossible) {
  PeerProcess process;
  const OwnEngine engine({"shm"});
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  EXPECT_EQ(peer.path(MemoryKind::kHost, MemoryKind::kHost)->transport, "");
  const Region local = engine->allocate(100).value();
  const Batch batch = whole(peer, local, peer.region(process.add_region(100, 1)).value());
  EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kNotAvailable));
}

TEST(Path, between_host_and_device_memory_is_staged) {
  PeerProcess process("shm,stream,hixl,staged");
  const OwnEngine engine;
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  for (const auto& [local, remote] : {std::pair{MemoryKind::kHost, MemoryKind::kDevice}, {MemoryKind::kDevice, MemoryKind::kHost}}) {
    const PathInfo path = peer.path(local, remote).value();
    EXPECT_EQ(path.transport, "staged");
    EXPECT_THAT(path.refused, Contains(Pair("hixl", HasSubstr("device memory and host memory that is pinned"))));
  }
  const OwnEngine without({"shm", "stream", "hixl"});
  const PathInfo path = without->connect(process.descriptor(), kConnect)->path(MemoryKind::kHost, MemoryKind::kDevice).value();
  EXPECT_EQ(path.transport, "");
  EXPECT_THAT(path.refused, Contains(Pair("staged", HasSubstr("Options.transports"))));
}

TEST(Path, of_bad_arguments) {
  PeerProcess process;
  const OwnEngine engine;
  const Peer peer = engine->connect(process.descriptor(), kConnect).value();
  RemoteRegion remote = peer.region(process.add_region(10, 1)).value();
  process.close_region(0);
  EXPECT_THAT(peer.path(MemoryKind::kHost, remote).status(), FailsWith(Code::kInvalidRegion));
  remote.owner[0] ^= std::byte{1};
  EXPECT_THAT(peer.path(MemoryKind::kHost, remote).status(), FailsWith(Code::kInvalidRegion));
}

}  // namespace
}  // namespace ray_hixl::test
