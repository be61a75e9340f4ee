#include "support/engines.h"
#include "support/eventually.h"

namespace ray_hixl::test {
namespace {

using testing::HasSubstr;
using Numbers = std::vector<std::int64_t>;

class BatchTest : public testing::Test {
 protected:
  const OwnEngine engine;
  const OwnEngine owner;
  const Peer peer = engine->connect(owner->descriptor(), kConnect).value();
  const Region local = add_region(*engine, 1000, 1);
  const Region shown = add_region(*owner, 500, 2);
  const RemoteRegion remote = peer.region(shown.descriptor()).value();

  Status prepare(const std::vector<BatchOp>& ops) { return peer.prepare(ops).status(); }
  Status prepare(const Numbers& local_index, const Numbers& local_offset, const Numbers& remote_index, const Numbers& remote_offset,
                 const Numbers& length) {
    return peer.prepare(BatchArrays{{&local, 1}, local_index, local_offset, {&remote, 1}, remote_index, remote_offset, length}).status();
  }
};

TEST_F(BatchTest, knows_its_bytes_and_ops) {
  const Batch batch =
      peer.prepare(std::vector<BatchOp>{{local, 0, remote, 0, 100}, {local, 5, remote, 5, 0}, {local, 900, remote, 400, 100}}).value();
  EXPECT_EQ(batch.bytes(), 200u);
  EXPECT_EQ(batch.size(), 3u);
}

TEST_F(BatchTest, accepts_ranges_up_to_the_end) {
  EXPECT_THAT(prepare({{local, 500, remote, 0, 500}}), IsOk());
  EXPECT_THAT(prepare({{local, 1000, remote, 500, 0}}), IsOk());
}

TEST_F(BatchTest, names_the_op_that_is_out_of_bounds) {
  const std::vector<BatchOp> bad = {
      {local, 501, remote, 0, 500},              // local end
      {local, 0, remote, 1, 500},                // remote end
      {local, 1001, remote, 0, 0},               // local offset
      {local, 0, remote, 501, 0},                // remote offset
      {local, ~std::uint64_t{0}, remote, 0, 2},  // local offset + length overflows
      {local, 0, remote, 2, ~std::uint64_t{0}},  // length overflows
  };
  for (const BatchOp& op : bad) {
    const Status status = prepare({{local, 0, remote, 0, 1}, op});
    EXPECT_THAT(status, FailsWith(Code::kInvalidRegion));
    EXPECT_THAT(status.message(), HasSubstr("op 1"));
  }
}

TEST_F(BatchTest, refuses_local_regions_that_are_closed_or_of_another_engine) {
  const Region closed = add_region(*engine, 10, 1);
  closed.close();
  EXPECT_THAT(prepare({{closed, 0, remote, 0, 1}}), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(prepare({{shown, 0, remote, 0, 1}}), FailsWith(Code::kInvalidRegion));
}

TEST_F(BatchTest, refuses_remote_regions_of_another_engine) {
  RemoteRegion foreign = remote;
  foreign.owner[0] ^= std::byte{1};
  EXPECT_THAT(prepare({{local, 0, foreign, 0, 1}}), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(prepare({{local, 0, remote, 0, 1}, {local, 0, foreign, 0, 1}}), FailsWith(Code::kInvalidRegion));
}

TEST_F(BatchTest, takes_the_same_as_arrays) {
  EXPECT_THAT(prepare({0, 0}, {0, 500}, {0, 0}, {0, 0}, {500, 500}), IsOk());
  EXPECT_THAT(prepare({}, {}, {}, {}, {}), IsOk());
}

TEST_F(BatchTest, refuses_arrays_with_bad_numbers) {
  EXPECT_THAT(prepare({0}, {0}, {0}, {0}, {1, 1}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(prepare({0}, {0, 0}, {0}, {0}, {1}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(prepare({-1}, {0}, {0}, {0}, {1}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(prepare({1}, {0}, {0}, {0}, {1}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(prepare({0}, {0}, {1}, {0}, {1}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(prepare({0}, {-1}, {0}, {0}, {1}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(prepare({0}, {0}, {0}, {-1}, {1}), FailsWith(Code::kInvalidArgument));
  const Status negative = prepare({0, 0}, {0, 0}, {0, 0}, {0, 0}, {1, -1});
  EXPECT_THAT(negative, FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(negative.message(), HasSubstr("op 1"));
  EXPECT_THAT(prepare({0}, {0}, {0}, {0}, {501}), FailsWith(Code::kInvalidRegion));
}

TEST_F(BatchTest, reads_only_through_a_peer_of_the_same_engines) {
  const Batch batch = whole(peer, local, remote);
  const Peer self = engine->connect(engine->descriptor(), kConnect).value();
  EXPECT_THAT(self.read(batch, kRead), FailsWith(Code::kInvalidRegion));
  const OwnEngine third;
  EXPECT_THAT(third->connect(owner->descriptor(), kConnect)->read(batch, kRead), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(engine->connect(owner->descriptor(), kConnect)->read(batch, kRead), IsOk());
}

TEST_F(BatchTest, keeps_its_local_regions_open) {
  std::optional<Region> dropped = engine->allocate(1000).value();
  std::optional<Batch> batch = whole(peer, *dropped, remote);
  const auto regions = [&] { return engine->stats().regions; };
  const auto before = regions();
  dropped.reset();
  EXPECT_EQ(regions(), before);
  EXPECT_THAT(peer.read(*batch, kRead), IsOk());
  batch.reset();
  EXPECT_TRUE(eventually([&] { return regions() == before - 1; }));
}

TEST_F(BatchTest, fails_once_a_local_region_was_closed) {
  const Batch batch = whole(peer, local, remote);
  ASSERT_THAT(peer.read(batch, kRead), IsOk());
  local.close();
  EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kInvalidRegion));
}

}  // namespace
}  // namespace ray_hixl::test
