// What each mode of Options::publish guarantees: the table in docs/design.md, a test for each column.
#include "object/fixtures.h"
#include "support/child.h"
#include "support/sizes.h"

namespace ray_hixl::test {
namespace {

// The owner is here and readers are other processes, but where it dies.
class Guarantees : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] static bool is_snapshot() { return GetParam() == "snapshot"; }
  Bytes publish_pattern(std::uint64_t seed) {
    fill(tensor(), seed);
    const std::vector<Layout> layouts = {uint8_layout(memory->size())};
    return owner.objects().publish(layouts, std::vector<SourceTensor>{{tensor(), 0}}, memory);
  }
  [[nodiscard]] MemoryRange tensor() const { return {memory->data(), memory->size()}; }

  const std::shared_ptr<Bytes> memory = std::make_shared<Bytes>(2 * kMiB);
  const OwnObjects owner{publishing(GetParam())};
};

TEST_P(Guarantees, when_the_writer_writes_after_publish) {
  const Bytes object = publish_pattern(1);
  PeerProcess reader;
  EXPECT_EQ(reader.fetch(object, 1), "ok");
  fill(tensor(), 2);
  EXPECT_EQ(reader.fetch(object, is_snapshot() ? 1 : 2), "ok");
}

TEST_P(Guarantees, when_a_reader_writes) {
  const Bytes object = publish_pattern(1);
  const OwnObjects other;
  const auto mine = fetch(other.objects(), object).value();
  fill(range_of(mine[0]), 7);
  EXPECT_TRUE(holds_pattern(tensor(), 1));
  PeerProcess reader;
  EXPECT_EQ(reader.fetch(object, 1), "ok");
}

TEST_P(Guarantees, when_the_owner_dies) {
  PeerProcess process(PeerSetup{"local,shm,cma,stream", {"publish=" + GetParam()}, {}});
  const OwnObjects reader;
  const Bytes object = process.publish({2 * kMiB}, 1);
  const auto fetched = fetch(reader.objects(), object).value();
  process.kill();
  expect_patterns(fetched, {2 * kMiB}, 1);
  EXPECT_THAT(fetch(reader.objects(), object).status(), FailsWith(Code::kPeerGone));
}

TEST_P(Guarantees, when_the_owner_dies_meanwhile) {
  const OwnObjects reader;
  for (int round = 0; round < 3; ++round) {
    PeerProcess process(PeerSetup{"local,shm,cma,stream", {"publish=" + GetParam()}, {}});
    const Bytes object = process.publish({9 * kMiB}, 1);
    const Fetch fetch = reader.objects().fetch(object, {}, nullptr, kRead);
    process.kill();
    ASSERT_TRUE(fetch.transfer().wait());
    const auto tensors = fetch.take();
    if (tensors.is_ok())
      expect_patterns(*tensors, {9 * kMiB}, 1);
    else
      EXPECT_THAT(tensors.status(), testing::AnyOf(FailsWith(Code::kPeerGone), FailsWith(Code::kConnectError)));
  }
}

TEST_P(Guarantees, when_the_owner_forks) {
  const Bytes object = publish_pattern(1);
  EXPECT_TRUE(in_child([&] {
    fill(tensor(), 7);
    return true;
  }));
  PeerProcess reader;
  EXPECT_EQ(reader.fetch(object, 1), "ok") << "what a child writes is its own";
  fill(tensor(), 2);
  EXPECT_EQ(reader.fetch(object, is_snapshot() ? 1 : 2), "ok");
}

TEST_P(Guarantees, when_many_read) {
  const Bytes object = publish_pattern(1);
  const OwnObjects local;
  PeerProcess by_memory;
  PeerProcess by_socket("stream");
  std::vector<Fetch> fetches;
  for (int i = 0; i < 8; ++i) fetches.push_back(local.objects().fetch(object, {}, nullptr, kRead));
  EXPECT_EQ(by_memory.fetch(object, 1), "ok");
  EXPECT_EQ(by_socket.fetch(object, 1), "ok");
  std::vector<FetchedTensor> all;
  for (const Fetch& fetch : fetches) {
    ASSERT_TRUE(fetch.transfer().wait());
    all.push_back(fetch.take().value().front());
  }
  for (const FetchedTensor& tensor : all) {
    EXPECT_TRUE(holds_pattern(range_of(tensor), 1)) << "each has memory of its own";
    fill(range_of(tensor), 7);
  }
}

INSTANTIATE_TEST_SUITE_P(Of, Guarantees, testing::Values("alias", "snapshot"), [](const auto& test) { return test.param; });

}  // namespace
}  // namespace ray_hixl::test
