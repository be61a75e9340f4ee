#include <sys/wait.h>
#include <unistd.h>

#include <semaphore>

#include "object/fixtures.h"
#include "object/layout.h"
#include "support/device_memory.h"
#include "support/eventually.h"
#include "support/sizes.h"

namespace ray_hixl::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Status published_error(const Bytes& metadata) { return Metadata::decode(metadata)->error(); }

TEST(Publish, describes_the_tensors) {
  const OwnObjects source;
  const Metadata metadata = Metadata::decode(publish(source.objects(), {10, 0, 3000}, 1)).value();
  EXPECT_THAT(metadata.error(), IsOk());
  EXPECT_EQ(metadata.engine(), source->descriptor());
  EXPECT_EQ(metadata.size(), 3u);
  EXPECT_EQ(metadata.bytes(), 3010u);
  EXPECT_EQ(metadata.layouts()[metadata.layout_of(2)].shape[0], 3000u);
  EXPECT_EQ(source->stats().objects, 1u);
  EXPECT_EQ(source->stats().objects_published, 1u);
}

TEST(Publish, puts_what_goes_wrong_into_the_metadata) {
  const OwnObjects source;
  Bytes memory(100);
  const std::vector<Layout> layouts = {uint8_layout(100)};
  const auto publish_one = [&](const MemoryRange& range) {
    return published_error(source.objects().publish(layouts, std::vector<SourceTensor>{{{memory.data(), 100}, 0}, {range, 0}}, nullptr));
  };
  use_test_cann();
  EXPECT_THAT(publish_one({memory.data(), 100, MemoryKind::kDevice, 3}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(publish_one({memory.data(), 100, MemoryKind::kDevice, 3}).message(), HasSubstr("there is no npu:3"));
  EXPECT_THAT(publish_one({memory.data(), 99}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(publish_one({memory.data(), 99}).message(), AllOf(HasSubstr("tensor 1"), HasSubstr("99 bytes"), HasSubstr("has 100")));
  EXPECT_THAT(publish_one({nullptr, 100}), FailsWith(Code::kInvalidArgument));
  EXPECT_EQ(source->stats().objects, 0u);
  EXPECT_EQ(source->stats().objects_published, 0u);
}

TEST(Publish, of_tensors_that_cannot_be_described_says_so) {
  const OwnObjects source;
  const auto publish_layout = [&](const Layout& layout, std::uint32_t index) {
    const Metadata metadata =
        Metadata::decode(source.objects().publish({&layout, 1}, std::vector<SourceTensor>{{{}, index}}, nullptr)).value();
    EXPECT_EQ(metadata.size(), 0u);
    return metadata.error();
  };
  EXPECT_THAT(publish_layout({"uint8", 1, {0}}, 1), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(publish_layout({"", 1, {0}}, 0), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(publish_layout({"uint8", 0, {0}}, 0), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(publish_layout({"uint8", 1, std::vector<std::uint64_t>(65, 0)}, 0), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(publish_layout({"uint8", 2, {std::uint64_t{1} << 63}}, 0), FailsWith(Code::kInvalidArgument));
}

TEST(Publish, of_an_error_still_describes_the_tensors) {
  const OwnObjects source;
  const std::vector<Layout> layouts = {uint8_layout(5), uint8_layout(6)};
  const std::vector<std::uint32_t> layout_of = {0, 1, 1};
  const Metadata metadata =
      Metadata::decode(source.objects().publish_error(layouts, layout_of, Status(Code::kUnsupportedTensor, "sparse"))).value();
  EXPECT_THAT(metadata.error(), FailsWith(Code::kUnsupportedTensor));
  EXPECT_EQ(metadata.size(), 3u);
  EXPECT_THAT(published_error(source.objects().publish_error(layouts, layout_of, Status())), FailsWith(Code::kInternal));
  EXPECT_THAT(published_error(source.objects().publish_error({}, layout_of, Status(Code::kUnsupportedTensor, "sparse"))),
              FailsWith(Code::kUnsupportedTensor));
}

struct Tells {
  std::binary_semaphore& gone;
  ~Tells() { gone.release(); }
};

TEST(Publish, drops_the_owner_of_what_it_could_not_publish) {
  const OwnObjects source;
  std::binary_semaphore gone{0};
  const std::vector<Layout> layouts = {uint8_layout(1)};
  (void)source.objects().publish(layouts, std::vector<SourceTensor>{{{}, 0}}, std::make_shared<Tells>(gone));
  EXPECT_TRUE(gone.try_acquire_for(kRead));
}

// By reference, wherever it landed; peers never map a landing segment, which others may write.
TEST(Publish, of_what_was_received_copies_nothing) {
  PeerProcess first;
  const OwnObjects between;
  auto received = std::make_shared<std::vector<FetchedTensor>>(fetch(between.objects(), first.publish({2 * kMiB, 100}, 3)).value());
  std::vector<Layout> layouts;
  std::vector<SourceTensor> tensors;
  for (const FetchedTensor& tensor : *received) {
    tensors.push_back({range_of(tensor), static_cast<std::uint32_t>(layouts.size())});
    layouts.push_back(uint8_layout(tensor.length));
  }
  const Bytes again = between.objects().publish(layouts, tensors, std::move(received));
  EXPECT_EQ(between->stats().source.allocations, 0u);
  EXPECT_EQ(between->stats().landing.live_blocks, 2u);
  PeerProcess by_cma("cma");
  PeerProcess by_stream("stream");
  PeerProcess by_shm("shm");
  EXPECT_EQ(by_cma.fetch(again, 3), "ok");
  EXPECT_EQ(by_stream.fetch(again, 3), "ok");
  EXPECT_THAT(by_shm.fetch(again, 3), HasSubstr("shm"));
  ASSERT_TRUE(between.objects().release(again));
  EXPECT_TRUE(eventually([&] { return between->stats().landing.live_blocks == 0; }));
}

TEST(Publish, after_close_gives_metadata_that_says_closed) {
  const OwnObjects source;
  const Bytes early = publish(source.objects(), {10}, 1);
  source->close();
  EXPECT_THAT(published_error(publish(source.objects(), {10}, 1)), FailsWith(Code::kClosed));
  EXPECT_FALSE(source.objects().release(early));
  EXPECT_EQ(source->stats().objects, 0u);
}

TEST(Release, frees_once_and_drops_the_owner) {
  const OwnObjects source;
  std::binary_semaphore gone{0};
  const Bytes metadata = source.objects().publish({}, {}, std::make_shared<Tells>(gone));
  EXPECT_FALSE(gone.try_acquire());
  EXPECT_TRUE(source.objects().release(metadata));
  EXPECT_TRUE(gone.try_acquire_for(kRead));
  EXPECT_FALSE(source.objects().release(metadata));
  EXPECT_EQ(source->stats().objects, 0u);
  EXPECT_EQ(source->stats().objects_published, 1u);
}

TEST(Release, takes_only_metadata_of_its_own_engine) {
  const OwnObjects source;
  const OwnObjects other;
  const Bytes metadata = publish(source.objects(), {10}, 1);
  EXPECT_FALSE(other.objects().release(metadata));
  EXPECT_FALSE(source.objects().release({}));
  EXPECT_FALSE(source.objects().release(make_pattern(100, 1)));
  EXPECT_FALSE(source.objects().release(source.objects().publish_error({}, {}, Status(Code::kInternal, "x"))));
  EXPECT_TRUE(source.objects().release(metadata));
}

TEST(Release, does_not_free_a_later_object_in_the_same_slot) {
  const OwnObjects source;
  const Bytes first = publish(source.objects(), {10}, 1);
  ASSERT_TRUE(source.objects().release(first));
  for (int i = 0; i < 100; ++i) {
    const Bytes next = publish(source.objects(), {10}, 1);
    EXPECT_FALSE(source.objects().release(first));
    EXPECT_TRUE(source.objects().release(next));
  }
}

TEST(Release, in_a_forked_child_leaves_the_parents_object_alone) {
  const OwnObjects source;
  const Bytes metadata = publish(source.objects(), {10}, 1);
  const pid_t child = fork();
  if (child == 0) {
    const bool released = source.objects().release(metadata);
    const Fetch fetch = source.objects().fetch(metadata, {}, nullptr, kRead);
    const bool closed = fetch.transfer().done() && fetch.take().status().code() == Code::kClosed;
    _exit(!released && closed ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_TRUE(fetch(source.objects(), metadata).is_ok());
}

}  // namespace
}  // namespace ray_hixl::test
