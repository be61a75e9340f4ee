// What every transport must do, the same for all: see ways.h.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <random>
#include <thread>

#include "support/device_memory.h"
#include "support/sanitized.h"
#include "support/signal_storm.h"
#include "transport/ways.h"

namespace ray_hixl::test {
namespace {

using testing::AnyOf;
using testing::ElementsAre;

// With RAY_HIXL_TEST_SIGNALS all of this under a timer signal that meets the callers' threads.
class Signals : public testing::Environment {
 public:
  void SetUp() override {
    if (std::getenv("RAY_HIXL_TEST_SIGNALS") != nullptr) storm_.emplace();
  }
  void TearDown() override {
    if (!storm_) return;
    storm_.reset();
    EXPECT_GT(SignalStorm::signals(), 20u);  // which a quarter of the tests takes longer than, however few cores it gets
  }

 private:
  std::optional<SignalStorm> storm_;
};
const auto* const signals = testing::AddGlobalTestEnvironment(new Signals);

// First of all: the CANN that everything else uses.
struct TestCann {
  explicit TestCann(bool needed) {
    if (needed) use_test_cann();
  }
};

class TransportTest : public testing::TestWithParam<Way> {
 protected:
  TransportTest()
      : cann(GetParam().uses_devices()),
        owner(GetParam().own_process ? static_cast<std::unique_ptr<Owner>>(std::make_unique<OwnerThere>())
                                     : std::make_unique<OwnerHere>()) {
    const Bytes descriptor = owner->descriptor();
    peer = engine->connect(GetParam().over_tcp ? tcp_only(descriptor) : descriptor, kConnect).value();
  }

  RemoteRegion show(std::uint64_t bytes, std::uint64_t seed) {
    return peer->region(owner->add_region(bytes, seed, GetParam().source)).value();
  }
  // Memory of the reader, of the host or a device.
  Region make_local(std::uint64_t bytes, std::uint64_t seed) const {
    return make_region(*engine, bytes, seed, local_memory(GetParam()), kReaderDevice);
  }
  [[nodiscard]] PeerProcess& process() { return dynamic_cast<OwnerThere&>(*owner).process(); }

  const TestCann cann;
  const std::unique_ptr<Owner> owner;
  const OwnEngine engine{{GetParam().transport}};
  std::optional<Peer> peer;
};

TEST_P(TransportTest, brings_every_byte_and_counts_it) {
  std::uint64_t all = 0;
  for (const std::uint64_t bytes : {1, 4095, 4096, 4097, 1000003}) {
    const RemoteRegion remote = show(bytes, bytes);
    const Region local = make_local(bytes + 2, 99);
    const Transfer transfer = peer->read_async(prepare_one(*peer, {local, 1, remote, 0, bytes}).value(), kRead);
    ASSERT_TRUE(transfer.wait());
    ASSERT_THAT(transfer.result(), IsOk());
    EXPECT_TRUE(holds_pattern(local, 1, bytes, bytes)) << bytes;
    EXPECT_TRUE(holds_pattern(local, 0, 1, 99)) << "the byte before was written";
    EXPECT_TRUE(holds_pattern(local, bytes + 1, 1, 99, bytes + 1)) << "the byte behind was written";
    ASSERT_THAT(names(transfer.bytes_by_transport()), ElementsAre(GetParam().transport));
    EXPECT_EQ(transfer.bytes_by_transport().front().bytes, bytes);
    all += bytes;
  }
  ASSERT_THAT(names(engine->stats().fetched), ElementsAre(GetParam().transport));
  EXPECT_EQ(engine->stats().fetched.front().bytes, all);
  EXPECT_EQ(engine->stats().staged_mapped_bytes, GetParam().maps_parts() ? all : 0);
  EXPECT_EQ(owner->served_bytes(), GetParam().is_one_sided() ? 0 : all) << "only stream and staged have the owner send bytes";
}

// What was read before goes a shorter way where it is little.
TEST_P(TransportTest, brings_a_batch_again_and_counts_it_each_time) {
  const Region local = make_local(4096, 99);
  const std::vector<Batch> batches = {whole(*peer, local, show(4096, 1)), whole(*peer, local, show(4096, 2))};
  for (std::uint64_t round = 0; round < 6; ++round) {
    const Transfer transfer = peer->read_async(batches[round % 2], kRead);
    ASSERT_TRUE(transfer.wait());
    ASSERT_THAT(transfer.result(), IsOk());
    EXPECT_TRUE(holds_pattern(local, 1 + round % 2));
    ASSERT_THAT(names(transfer.bytes_by_transport()), ElementsAre(GetParam().transport));
    EXPECT_EQ(transfer.bytes_by_transport().front().bytes, 4096u);
    const Stats stats = engine->stats();
    EXPECT_EQ(stats.fetched.front().bytes, (round + 1) * 4096);
    EXPECT_EQ(stats.transfers_succeeded, round + 1);
    EXPECT_EQ(stats.transfers_in_flight, 0u);
  }
}

// Shuffled, from and into two regions each, at odd offsets and of odd lengths; some move nothing.
TEST_P(TransportTest, brings_many_pieces_to_their_places_and_nothing_else) {
  constexpr std::int64_t kPieces = unless_sanitized(3000, 1000);
  constexpr std::int64_t kStep = 509;
  const std::vector<RemoteRegion> remotes = {show(kPieces * kStep, 0), show(kPieces * kStep, 1)};
  const std::vector<Region> locals = {make_local(kPieces * kStep, 99), make_local(kPieces * kStep, 99)};
  std::mt19937 random(7);
  std::vector<std::int64_t> order(kPieces);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  std::vector<std::int64_t> local_index, local_offset, remote_index, remote_offset, length;
  for (const std::int64_t place : order) {
    local_index.push_back(place % 2);
    local_offset.push_back(place * kStep);
    remote_index.push_back(std::uniform_int_distribution<std::int64_t>(0, 1)(random));
    length.push_back(place % 7 == 0 ? 0 : std::uniform_int_distribution<std::int64_t>(1, kStep)(random));
    remote_offset.push_back(std::uniform_int_distribution<std::int64_t>(0, kPieces * kStep - length.back())(random));
  }
  const Batch batch = peer->prepare(BatchArrays{locals, local_index, local_offset, remotes, remote_index, remote_offset, length}).value();
  for (int round = 0; round < 2; ++round) {
    ASSERT_THAT(peer->read(batch, kRead), IsOk());
    const std::vector<Bytes> arrived = {load(locals[0].range()), load(locals[1].range())};
    for (std::size_t i = 0; i < order.size(); ++i) {
      const auto from = static_cast<std::uint64_t>(local_offset[i]);
      const auto moved = static_cast<std::size_t>(length[i]);
      const auto here = std::span(arrived[static_cast<std::size_t>(local_index[i])]).subspan(from, kStep);
      const auto other = std::span(arrived[static_cast<std::size_t>(1 - local_index[i])]).subspan(from, kStep);
      ASSERT_TRUE(is_pattern(here.first(moved), static_cast<std::uint64_t>(remote_index[i]), static_cast<std::uint64_t>(remote_offset[i])));
      ASSERT_TRUE(is_pattern(here.subspan(moved), 99, from + moved));
      ASSERT_TRUE(is_pattern(other, 99, from));
    }
  }
}

// Also where both sides are laid out as ray-hixl itself lays tensors out: what lies between them here is the caller's.
TEST_P(TransportTest, writes_nothing_between_pieces) {
  constexpr std::uint64_t kStep = 512;
  constexpr std::uint64_t kLength = 100;
  const RemoteRegion remote = show(8 * kStep, 1);
  const Region local = make_local(8 * kStep, 99);
  std::vector<BatchOp> ops;
  for (std::uint64_t i = 0; i < 8; ++i) ops.push_back({local, i * kStep, remote, i * kStep, kLength});
  ASSERT_THAT(peer->read(peer->prepare(ops).value(), kRead), IsOk());
  for (std::uint64_t i = 0; i < 8; ++i) {
    EXPECT_TRUE(holds_pattern(local, i * kStep, kLength, 1, i * kStep));
    EXPECT_TRUE(holds_pattern(local, i * kStep + kLength, kStep - kLength, 99, i * kStep + kLength)) << "piece " << i;
  }
}

TEST_P(TransportTest, refuses_a_region_that_was_closed_and_reads_the_next_one) {
  const Region local = make_local(4096, 99);
  const Batch batch = whole(*peer, local, show(4096, 1));
  ASSERT_THAT(peer->read(batch, kRead), IsOk());
  owner->close_region(0);
  EXPECT_THAT(peer->read(batch, kRead), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(peer->read(batch, kRead), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(peer->read(whole(*peer, local, show(4096, 2)), kRead), IsOk());  // most likely in the same slot
  EXPECT_TRUE(holds_pattern(local, 2));
  EXPECT_THAT(peer->read(batch, kRead), FailsWith(Code::kInvalidRegion));
}

// Where the reader sees the owner's generations, or the owner serves the bytes. Between hosts HIXL asks nobody before it reads.
TEST_P(TransportTest, moves_nothing_out_of_a_region_that_was_closed_before) {
  if (GetParam().transport == "hixl" && GetParam().over_tcp) GTEST_SKIP() << "it is refused afterwards";
  const Region local = make_local(4096, 99);
  const Batch batch = whole(*peer, local, show(4096, 1));
  ASSERT_THAT(peer->read(batch, kRead), IsOk());
  fill(local, 99);
  owner->close_region(0);
  EXPECT_THAT(peer->read(batch, kRead), FailsWith(Code::kInvalidRegion));
  EXPECT_TRUE(holds_pattern(local, 99));
}

TEST_P(TransportTest, checks_what_it_reads_nothing_of) {
  const RemoteRegion read = show(4096, 1);
  const RemoteRegion not_read = show(4096, 2);
  const Region local = make_local(4096, 99);
  const std::vector<BatchOp> empty = {{local, 0, not_read, 0, 0}};
  const std::vector<BatchOp> beside_bytes = {{local, 0, read, 0, 4096}, {local, 0, not_read, 0, 0}};
  for (const auto& ops : {empty, beside_bytes}) EXPECT_THAT(peer->read(peer->prepare(ops).value(), kRead), IsOk());
  owner->close_region(1);
  for (const auto& ops : {empty, beside_bytes}) {
    EXPECT_THAT(peer->read(peer->prepare(ops).value(), kRead), FailsWith(Code::kInvalidRegion));
  }
  owner->close_engine();
  EXPECT_THAT(peer->read(peer->prepare(empty).value(), kRead).code(), AnyOf(Code::kPeerGone, Code::kInvalidRegion));
}

TEST_P(TransportTest, refuses_handles_that_were_not_given_out) {
  const RemoteRegion real = show(4096, 1);
  const Region local = make_local(4096, 99);
  RemoteRegion wrong_key = real;
  wrong_key.handle.key ^= 1;
  RemoteRegion next_generation = real;
  next_generation.handle.generation += 2;
  RemoteRegion other_slot = real;
  other_slot.handle.slot += 1;
  RemoteRegion no_slot = real;
  no_slot.handle.slot = 0xffffffff;
  for (const RemoteRegion& remote : {wrong_key, next_generation, other_slot, no_slot}) {
    EXPECT_THAT(peer->read(whole(*peer, local, remote), kRead), FailsWith(Code::kInvalidRegion));
  }
  EXPECT_TRUE(holds_pattern(local, 99));
  EXPECT_THAT(peer->read(whole(*peer, local, real), kRead), IsOk());
}

TEST_P(TransportTest, refuses_bytes_beyond_the_end_whatever_the_descriptor_says) {
  RemoteRegion remote = show(4096, 1);
  remote.length = 8192;
  const Region local = make_local(8192, 99);
  EXPECT_THAT(peer->read(whole(*peer, local, remote), kRead), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(peer->read(prepare_one(*peer, {local, 0, remote, 4096, 1}).value(), kRead), FailsWith(Code::kInvalidRegion));
  EXPECT_TRUE(holds_pattern(local, 99));
  EXPECT_THAT(peer->read(prepare_one(*peer, {local, 0, remote, 4095, 1}).value(), kRead), IsOk());
}

TEST_P(TransportTest, moves_nothing_once_the_deadline_passed) {
  const Region local = make_local(4096, 99);
  const Batch batch = whole(*peer, local, show(4096, 1));
  EXPECT_THAT(peer->read(batch, 0ns), FailsWith(Code::kTransferTimeout));
  EXPECT_TRUE(holds_pattern(local, 99));
  EXPECT_THAT(peer->read(batch, kRead), IsOk());
  fill(local, 99);
  EXPECT_THAT(peer->read(batch, 0ns), FailsWith(Code::kTransferTimeout));
  EXPECT_TRUE(holds_pattern(local, 99));
}

// Whatever ends it: once a transfer has ended, its destination is the caller's again.
TEST_P(TransportTest, never_writes_late) {
  constexpr std::uint64_t kBytes = 8 << 20;
  const Region local = make_local(kBytes, 99);
  const Batch batch = whole(*peer, local, show(kBytes, 1));
  ASSERT_THAT(peer->read(batch, kRead), IsOk());
  const Bytes untouched(kBytes, std::byte{0xee});
  std::mt19937 random(3);
  for (int round = 0; round < unless_sanitized(25, 6); ++round) {
    const auto delay = std::chrono::microseconds(std::uniform_int_distribution<int>(0, 3000)(random));
    const bool cancels = round % 2 == 0;
    const Transfer transfer = peer->read_async(batch, cancels ? std::chrono::nanoseconds(kRead) : delay);
    if (cancels) {
      std::this_thread::sleep_for(delay);
      transfer.cancel();
    }
    ASSERT_TRUE(transfer.wait());
    EXPECT_THAT(transfer.result().code(), AnyOf(Code::kOk, cancels ? Code::kCancelled : Code::kTransferTimeout));
    store(local.range(), untouched);
    std::this_thread::sleep_for(1ms);
    ASSERT_EQ(std::memcmp(load(local.range()).data(), untouched.data(), kBytes), 0);
  }
  EXPECT_EQ(engine->stats().quarantined_bytes, 0u);
}

TEST_P(TransportTest, delivers_all_or_fails_when_the_region_is_closed_meanwhile) {
  constexpr std::uint64_t kBytes = 4 << 20;
  for (std::size_t round = 0; round < 5; ++round) {
    const RemoteRegion remote = show(kBytes, round);
    const Region local = make_local(kBytes, 99);
    const Batch batch = whole(*peer, local, remote);
    std::atomic<bool> closed{false};
    std::thread closer([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(round));
      owner->close_region(round);
      closed = true;
    });
    bool refused = false;
    while (!refused) {
      const bool was_closed = closed;
      fill(local, 99);
      const Status status = peer->read(batch, kRead);
      refused = status.code() == Code::kInvalidRegion;
      if (refused) break;
      EXPECT_THAT(status, IsOk());
      EXPECT_FALSE(was_closed) << "read after close() returned there";
      EXPECT_TRUE(holds_pattern(local, round));
      if (was_closed || !status.is_ok()) break;
    }
    closer.join();
    EXPECT_TRUE(refused);
  }
}

TEST_P(TransportTest, serves_several_threads_at_once) {
  constexpr std::uint64_t kBytes = 100000;
  std::vector<RemoteRegion> remotes;
  for (std::uint64_t seed = 0; seed < 4; ++seed) remotes.push_back(show(kBytes, seed));
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    threads.emplace_back([&, seed] {
      const Region local = make_local(kBytes, 99);
      const Batch batch = whole(*peer, local, remotes[seed]);
      for (int round = 0; round < 20; ++round) {
        fill(local, 99);
        ASSERT_THAT(peer->read(batch, kRead), IsOk());
        ASSERT_TRUE(holds_pattern(local, seed));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine->stats().transfers_in_flight, 0u);
}

TEST_P(TransportTest, fails_once_the_owners_engine_is_closed) {
  const Region local = make_local(4096, 99);
  const Batch batch = whole(*peer, local, show(4096, 1));
  ASSERT_THAT(peer->read(batch, kRead), IsOk());
  owner->close_engine();
  EXPECT_THAT(peer->read(batch, kRead).code(), AnyOf(Code::kPeerGone, Code::kInvalidRegion));  // its regions go before its sockets
}

INSTANTIATE_TEST_SUITE_P(Every, TransportTest, testing::ValuesIn(every_way()), [](const auto& way) { return way.param.name; });

class TransportBetweenProcesses : public TransportTest {};

TEST_P(TransportBetweenProcesses, brings_64_mebibytes) {
  constexpr std::uint64_t kBytes = 64 << 20;
  const Region local = make_local(kBytes, 99);
  ASSERT_THAT(peer->read(whole(*peer, local, show(kBytes, 1)), kRead), IsOk());
  EXPECT_TRUE(holds_pattern(local, 1));
}

TEST_P(TransportBetweenProcesses, ends_soon_when_the_owner_is_killed_and_serves_others) {
  constexpr std::uint64_t kBytes = 8 << 20;
  OwnerThere other;
  const Peer other_peer = engine->connect(other.descriptor(), kConnect).value();
  const RemoteRegion of_other = other_peer.region(other.add_region(4096, 5, GetParam().source)).value();
  const RemoteRegion remote = show(kBytes, 1);
  std::vector<Batch> batches;
  for (int i = 0; i < 8; ++i) batches.push_back(whole(*peer, make_local(kBytes, 99), remote));
  for (const Batch& batch : batches) ASSERT_THAT(peer->read(batch, kRead), IsOk());
  std::vector<Transfer> transfers;
  for (const Batch& batch : batches) transfers.push_back(peer->read_async(batch, kRead));
  const auto start = std::chrono::steady_clock::now();
  process().kill();
  for (const Transfer& transfer : transfers) {
    ASSERT_TRUE(transfer.wait());
    EXPECT_THAT(transfer.result().code(), AnyOf(Code::kOk, Code::kPeerGone)) << transfer.result().to_string();
  }
  EXPECT_THAT(peer->read(batches.front(), kRead), FailsWith(Code::kPeerGone));
  EXPECT_LT(std::chrono::steady_clock::now() - start, scaled(5s));
  const Region local = make_local(4096, 99);
  EXPECT_THAT(other_peer.read(whole(other_peer, local, of_other), kRead), IsOk());
  EXPECT_TRUE(holds_pattern(local, 5));
}

// And for being asked whether the bytes were still good, where the reader cannot see that.
TEST_P(TransportBetweenProcesses, needs_a_running_owner_for_streams_only) {
  const Region local = make_local(1 << 20, 99);
  const Batch batch = whole(*peer, local, show(1 << 20, 1));
  ASSERT_THAT(peer->read(batch, kRead), IsOk());
  process().pause();
  if (!GetParam().is_one_sided() || GetParam().over_tcp) {
    EXPECT_THAT(peer->read(batch, 200ms), FailsWith(Code::kTransferTimeout));
  } else {
    fill(local, 99);
    EXPECT_THAT(peer->read(batch, kRead), IsOk());
    EXPECT_TRUE(holds_pattern(local, 1));
  }
  process().resume();
  EXPECT_THAT(peer->read(batch, kRead), IsOk());
}

INSTANTIATE_TEST_SUITE_P(Every, TransportBetweenProcesses, testing::ValuesIn(ways_between_processes()),
                         [](const auto& way) { return way.param.name; });

}  // namespace
}  // namespace ray_hixl::test
