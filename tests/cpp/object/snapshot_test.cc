// Options::publish "snapshot": what an object holds is what its tensors held, whatever becomes of them.
#include <sys/mman.h>

#include <algorithm>
#include <semaphore>

#include "engine/engine_impl.h"
#include "object/fixtures.h"
#include "object/metadata.h"
#include "support/device_memory.h"
#include "support/eventually.h"
#include "support/sizes.h"

namespace ray_hixl::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// An engine that takes snapshots.
class Snapshots : public testing::Test {
 protected:
  // One tensor of bytes for each range.
  Bytes publish_ranges(const std::vector<MemoryRange>& ranges, std::shared_ptr<const void> kept = nullptr) const {
    std::vector<Layout> layouts;
    std::vector<SourceTensor> tensors;
    for (const MemoryRange& range : ranges) {
      tensors.push_back({range, static_cast<std::uint32_t>(layouts.size())});
      layouts.push_back(uint8_layout(range.length));
    }
    return source.objects().publish(layouts, tensors, std::move(kept));
  }
  // Where an object's bytes lie.
  [[nodiscard]] std::vector<MemoryRange> ranges_of(const Bytes& object) const {
    return (*source->impl()->slots().pin(decode_head(object)->handle))->ranges;
  }
  [[nodiscard]] ArenaStats arena() const { return source->stats().source; }

  const OwnObjects source{publishing("snapshot")};
};

// Copied by the caller, and in parts by the copy pool.
TEST_F(Snapshots, hold_what_the_tensors_held_at_publish) {
  for (const std::vector<std::uint64_t>& sizes : std::vector<std::vector<std::uint64_t>>{{1000}, {1, 9 * kMiB + 3, 0, 4096, kMiB, 17}}) {
    Tensors tensors(sizes, 3);
    const Bytes object = source.objects().publish(tensors.layouts, tensors.sources, nullptr);
    for (Bytes& bytes : tensors.bytes) std::ranges::fill(bytes, std::byte{0});
    expect_patterns(fetch(source.objects(), object).value(), sizes, 3);
  }
}

// A publish that did not wait would have its tensor written before the only thread that copies comes to it.
TEST(Snapshot, is_waited_for) {
  std::binary_semaphore written{0};
  Options options = publishing("snapshot");
  options.copy_threads = 1;
  const OwnObjects source(options);
  ASSERT_THAT(source->impl()->copy_pool().run([&] { (void)written.try_acquire_for(200ms); }), IsOk());
  Tensors tensors({2 * kMiB}, 3);
  const Bytes object = source.objects().publish(tensors.layouts, tensors.sources, nullptr);
  std::ranges::fill(tensors.bytes[0], std::byte{0});
  written.release();
  expect_patterns(fetch(source.objects(), object).value(), {2 * kMiB}, 3);
}

TEST_F(Snapshots, let_go_of_the_tensors_at_once) {
  std::weak_ptr<const void> watch;
  const Bytes object = publish(source.objects(), {2 * kMiB, 100}, 3, &watch);
  EXPECT_TRUE(eventually([&] { return watch.expired(); }));
  expect_patterns(fetch(source.objects(), object).value(), {2 * kMiB, 100}, 3);
}

TEST_F(Snapshots, outlive_the_mapping_of_their_tensors) {
  void* const mapped = ::mmap(nullptr, 2 * kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  const MemoryRange range{static_cast<std::byte*>(mapped), 2 * kMiB};
  fill(range, 5);
  const Bytes object = publish_ranges({range});
  ASSERT_EQ(::munmap(mapped, 2 * kMiB), 0);
  PeerProcess reader;
  EXPECT_EQ(reader.fetch(object, 5), "ok");
}

TEST_F(Snapshots, of_memory_in_the_source_arena_are_copies_too) {
  const Region born = make_region(*source, 5000, 3, SourceMemory::kArena, 0);
  const Bytes object = publish_ranges({born.range()});
  fill(born, 9);
  expect_patterns(fetch(source.objects(), object).value(), {5000}, 3);
}

TEST_F(Snapshots, of_pinned_memory_are_copies_that_shm_reads) {
  use_test_cann();
  const Region pinned = make_region(*source, 5000, 3, SourceMemory::kPinned, 0);
  ASSERT_EQ(pinned.range().kind, MemoryKind::kPinned);
  const Bytes object = publish_ranges({pinned.range()});
  fill(pinned, 9);
  PeerProcess reader("shm");
  EXPECT_EQ(reader.fetch(object, 3), "ok");
}

TEST_F(Snapshots, of_registered_npu_memory_are_copies_too) {
  use_test_cann();
  const Region npu = make_region(*source, 5000, 3, SourceMemory::kSlab, 0);
  Bytes host = make_pattern(700, 4);
  const auto owner = std::make_shared<int>();
  const Bytes object = publish_ranges({npu.range(), {host.data(), 700}}, owner);
  fill(npu, 9);
  std::ranges::fill(host, std::byte{0});
  EXPECT_TRUE(eventually([&] { return owner.use_count() == 1; }));
  expect_patterns(fetch(source.objects(), object).value(), {5000, 700}, 3);
}

// Stands for torch: a copy to the host comes with the device's work, like one that does not block.
class LateCopy final : public DeviceOps {
 public:
  LateCopy(const MemoryRange& to, std::uint64_t seed) : to_(to), seed_(seed) {}
  Result<std::shared_ptr<Fence>> set_fence(std::int32_t) override { return std::shared_ptr<Fence>(std::make_shared<Copied>(*this)); }
  Status pack(std::int32_t, std::span<const Copy>) override { return Status::ok(); }
  std::int32_t landing_device(std::int32_t source_device) override { return source_device; }

 private:
  struct Copied final : Fence {
    explicit Copied(const LateCopy& the_ops) : ops(the_ops) {}
    Result<bool> passed() override {
      fill(ops.to_, ops.seed_);
      return true;
    }
    const LateCopy& ops;
  };
  const MemoryRange to_;
  const std::uint64_t seed_;
};

TEST_F(Snapshots, come_behind_the_work_of_their_devices) {
  use_test_cann();
  const Region npu = make_region(*source, 5000, 3, SourceMemory::kSlab, 0);
  Bytes host(kMiB);
  LateCopy ops({host.data(), kMiB}, 4);
  const std::vector<Layout> layouts = {uint8_layout(5000), uint8_layout(kMiB)};
  const std::vector<SourceTensor> tensors = {{npu.range(), 0}, {{host.data(), kMiB}, 1}};
  const Bytes object = source.objects().publish(layouts, tensors, nullptr, &ops);
  EXPECT_TRUE(holds_pattern(range_of(fetch(source.objects(), object).value()[1]), 4));
}

TEST_F(Snapshots, are_read_by_shm_from_another_process) {
  PeerProcess process(PeerSetup{"local,shm,cma,stream", {"publish=snapshot"}, {}});
  const OwnObjects reader;
  const Fetch fetch = reader.objects().fetch(process.publish({2 * kMiB, 100}, 3), {}, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  EXPECT_THAT(names(fetch.transfer().bytes_by_transport()), ElementsAre("shm"));
  expect_patterns(fetch.take().value(), {2 * kMiB, 100}, 3);
}

// Readers of an object that is large copy few long pieces.
TEST_F(Snapshots, lie_side_by_side_in_the_objects_order) {
  constexpr std::uint64_t kEach = 8192;
  constexpr std::size_t kTensors = 256;
  const Bytes object = publish(source.objects(), std::vector<std::uint64_t>(kTensors, kEach), 3);
  const std::vector<MemoryRange> ranges = ranges_of(object);
  ASSERT_EQ(ranges.size(), kTensors);
  for (std::size_t i = 1; i < ranges.size(); ++i) EXPECT_EQ(ranges[i].address, ranges[i - 1].address + kEach) << "tensor " << i;
}

TEST_F(Snapshots, of_small_tensors_share_their_pages) {
  const Bytes object = publish(source.objects(), std::vector<std::uint64_t>(1000, 100), 3);
  EXPECT_LE(arena().used_bytes, 1000u * 128 + memory::Arena::kAlignment);
  expect_patterns(fetch(source.objects(), object).value(), std::vector<std::uint64_t>(1000, 100), 3);
}

TEST_F(Snapshots, of_one_tensor_several_times_hold_its_bytes_once) {
  Bytes bytes = make_pattern(kMiB, 3);
  const MemoryRange all{bytes.data(), kMiB};
  const MemoryRange part{bytes.data(), 100};
  const Bytes object = publish_ranges({part, all, all, part});
  EXPECT_LE(arena().used_bytes, kMiB + 2 * memory::Arena::kAlignment);
  std::ranges::fill(bytes, std::byte{0});
  const auto tensors = fetch(source.objects(), object).value();
  ASSERT_EQ(tensors.size(), 4u);
  for (const FetchedTensor& tensor : tensors) EXPECT_TRUE(holds_pattern(range_of(tensor), 3));
}

TEST_F(Snapshots, give_their_memory_back_on_release) {
  const Bytes object = publish(source.objects(), {2 * kMiB, 100}, 3);
  EXPECT_GE(arena().used_bytes, 2 * kMiB + 100);
  ASSERT_TRUE(source.objects().release(object));
  EXPECT_TRUE(eventually([&] { return arena().used_bytes == 0; }));
  EXPECT_THAT(fetch(source.objects(), object).status(), FailsWith(Code::kObjectFreed));
}

TEST_F(Snapshots, without_memory_are_the_objects_error_and_keep_nothing) {
  Bytes bytes(100);
  const auto owner = std::make_shared<int>();
  const Bytes object = publish_ranges({{bytes.data(), 100}, {bytes.data(), std::uint64_t{1} << 60}}, owner);
  const Status error = Metadata::decode(object)->error();
  EXPECT_THAT(error, FailsWith(Code::kOutOfMemory));
  EXPECT_THAT(error.message(), AllOf(HasSubstr("publish=\"alias\" does not"), HasSubstr("in the arena, which maps")));
  EXPECT_EQ(arena().live_blocks, 0u);
  EXPECT_EQ(source->stats().objects, 0u);
  EXPECT_TRUE(eventually([&] { return owner.use_count() == 1; }));
}

// As if it were closed while the publish is under way.
TEST_F(Snapshots, that_cannot_be_copied_any_more_are_the_objects_error_and_keep_nothing) {
  source->impl()->copy_pool().stop();
  EXPECT_THAT(Metadata::decode(publish(source.objects(), {2 * kMiB}, 1))->error(), FailsWith(Code::kClosed));
  EXPECT_EQ(arena().live_blocks, 0u);
}

}  // namespace
}  // namespace ray_hixl::test
