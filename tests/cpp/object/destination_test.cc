#include "object/destination.h"

#include <algorithm>
#include <set>

#include "object/fixtures.h"
#include "object/metadata.h"
#include "object/tensor_blocks.h"
#include "support/sizes.h"

namespace ray_hixl::test {
namespace {

using testing::HasSubstr;

Metadata metadata_of(const std::vector<std::uint64_t>& sizes) {
  std::vector<Layout> layouts;
  std::vector<Metadata::Run> runs;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    layouts.push_back(uint8_layout(sizes[i]));
    append_tensor(runs, static_cast<std::uint32_t>(i));
  }
  ObjectDescription object;
  object.handle = {1, 1, 1};
  object.layouts = layouts;
  object.runs = runs;
  return Metadata::decode(encode_metadata(object)).value();
}

Result<Landing> no_devices(std::int32_t, std::int32_t) { return Status(Code::kNotAvailable, "no devices here"); }

class DestinationTest : public testing::Test {
 protected:
  const std::shared_ptr<memory::Arena> arena = memory::Arena::create(memory::ArenaKind::kLanding, std::uint64_t{64} << 20);

  Destinations allocate(const std::vector<std::uint64_t>& sizes) {
    return allocate_destinations(metadata_of(sizes), {}, *arena, no_devices).value();
  }
  static std::size_t blocks(const Destinations& destinations) {
    std::set<const void*> distinct;
    for (const FetchedTensor& tensor : destinations.tensors) {
      if (tensor.block) distinct.insert(tensor.block.get());
    }
    return distinct.size();
  }
};

TEST_F(DestinationTest, large_tensors_have_blocks_of_their_own_and_small_neighbours_share) {
  const Destinations destinations = allocate({kOwnBlockBytes, 100, 200, kOwnBlockBytes - 320, 1, kMiB, 300});
  EXPECT_EQ(blocks(destinations), 5u);
  EXPECT_EQ(destinations.tensors[1].block, destinations.tensors[2].block);
  EXPECT_NE(destinations.tensors[2].block, destinations.tensors[3].block) << "they would have 64 bytes too many";
  EXPECT_EQ(destinations.tensors[3].block, destinations.tensors[4].block);
  EXPECT_NE(destinations.tensors[4].block, destinations.tensors[6].block) << "a large one lies between";
}

TEST_F(DestinationTest, tensors_lie_side_by_side_in_published_order) {
  const Destinations destinations = allocate({kOwnBlockBytes, 100, 3 * kMiB, 8192, 4096, kOwnBlockBytes});
  const std::vector<std::uint64_t> taken{kOwnBlockBytes, 128, 3 * kMiB, 8192, 4096, kOwnBlockBytes};
  for (std::size_t i = 1; i < taken.size(); ++i) {
    EXPECT_EQ(destinations.tensors[i].address, destinations.tensors[i - 1].address + taken[i - 1]) << i;
  }
}

TEST_F(DestinationTest, tensors_are_aligned_and_do_not_overlap) {
  const Destinations destinations = allocate({1, 63, 64, 65, 3 * kMiB, 4095});
  std::vector<std::pair<std::byte*, std::byte*>> ranges;
  for (const FetchedTensor& tensor : destinations.tensors) {
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.address) % kTensorAlignment, 0u);
    ranges.emplace_back(tensor.address, tensor.address + tensor.length);
  }
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i) EXPECT_LE(ranges[i - 1].second, ranges[i].first);
}

// What is left of an object is about what is kept of it, and the rest of its memory serves the next ones.
TEST_F(DestinationTest, a_tensor_that_is_kept_of_each_object_keeps_little_else) {
  constexpr std::size_t kObjects = 40;
  for (const std::uint64_t size : {std::uint64_t{100}, kOwnBlockBytes - 1, kOwnBlockBytes, kOwnBlockBytes + 1, std::uint64_t{300000}}) {
    std::vector<FetchedTensor> kept;
    for (std::size_t i = 0; i < kObjects; ++i) {
      const Destinations destinations = allocate(std::vector<std::uint64_t>(std::min<std::uint64_t>(16 * kMiB / size, 20000), size));
      kept.push_back(destinations.tensors[destinations.tensors.size() / 2]);
    }
    const std::uint64_t step = memory::Arena::kAlignment;
    EXPECT_EQ(arena->stats().live_blocks, kObjects);
    EXPECT_LE(arena->stats().used_bytes, kObjects * std::max<std::uint64_t>(32 << 10, (size + step - 1) / step * step)) << size;
    EXPECT_LE(arena->stats().mapped_bytes, 64 * kMiB) << size;
  }
}

TEST_F(DestinationTest, wishes_are_one_for_each_tensor) {
  const std::vector<std::int32_t> wishes{-1, -1};
  EXPECT_THAT(allocate_destinations(metadata_of({10, 20}), wishes, *arena, no_devices).status(), IsOk()) << "host memory needs none";
  EXPECT_THAT(allocate_destinations(metadata_of({10}), wishes, *arena, no_devices).status(), FailsWith(Code::kInvalidArgument));
}

TEST_F(DestinationTest, tensors_without_elements_have_no_memory) {
  const Destinations destinations = allocate({0, 10, 0});
  EXPECT_EQ(destinations.tensors[0].address, nullptr);
  EXPECT_EQ(destinations.tensors[0].block, nullptr);
  EXPECT_EQ(destinations.tensors[2].length, 0u);
  EXPECT_EQ(blocks(destinations), 1u);
}

TEST_F(DestinationTest, a_plan_holds_all_blocks_and_reads_the_tensors_one_after_the_other) {
  const Metadata metadata = metadata_of({10, 0, 20, 2 * kMiB});
  Destinations destinations = allocate_destinations(metadata, {}, *arena, no_devices).value();
  auto plan = make_plan(metadata, destinations);
  ASSERT_EQ(plan->pieces.size(), 3u);
  EXPECT_EQ(plan->pieces[1].offset, 10u);
  EXPECT_EQ(plan->pieces[2].offset, 30u);
  EXPECT_EQ(plan->pieces[2].local, destinations.tensors[3].address);
  EXPECT_EQ(plan->bytes, 30 + 2 * kMiB);
  destinations = {};
  EXPECT_EQ(arena->stats().live_blocks, 2u);
  plan.reset();
  EXPECT_EQ(arena->stats().live_blocks, 0u);
}

TEST_F(DestinationTest, more_than_there_is_gives_an_error_and_keeps_nothing) {
  EXPECT_THAT(allocate_destinations(metadata_of({kMiB, std::uint64_t{1} << 60}), {}, *arena, no_devices).status(),
              FailsWith(Code::kOutOfMemory));
  EXPECT_EQ(arena->stats().live_blocks, 0u);
}

TEST(Targets, must_match_in_number_and_size) {
  const Metadata metadata = metadata_of({10, 0, 20});
  Bytes memory(30);
  const MemoryRange first{memory.data(), 10};
  const MemoryRange none{};
  const MemoryRange last{memory.data() + 10, 20};
  const auto use = [&](const std::vector<MemoryRange>& targets) { return use_targets(metadata, targets, nullptr); };
  EXPECT_THAT(use({first, none}).status(), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(use({first, none, last, none}).status(), FailsWith(Code::kInvalidArgument));
  const Status small = use({first, none, first}).status();
  EXPECT_THAT(small, FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(small.message(), testing::AllOf(HasSubstr("target buffer 2"), HasSubstr("10 bytes"), HasSubstr("the tensor has 20")));
  EXPECT_THAT(use({first, first, last}).status(), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(use({first, none, {nullptr, 20}}).status(), FailsWith(Code::kInvalidArgument));
  const Destinations good = use({first, none, last}).value();
  EXPECT_EQ(good.tensors[2].address, last.address);
  EXPECT_EQ(good.tensors[2].block, nullptr);
}

// Only the pieces of such tensors have a place, which says that one side is the host's.
TEST(Targets, may_be_on_a_device_for_tensors_of_the_host) {
  const Metadata metadata = metadata_of({10, 0, 20});
  Bytes memory(30);
  const std::vector<MemoryRange> targets = {{memory.data(), 10}, {}, {memory.data() + 10, 20, MemoryKind::kDevice, 3}};
  const Destinations destinations = use_targets(metadata, targets, nullptr).value();
  EXPECT_EQ(destinations.tensors[2].kind, MemoryKind::kDevice);
  const auto plan = make_plan(metadata, destinations);
  ASSERT_EQ(plan->pieces.size(), 2u);
  EXPECT_EQ(plan->pieces[0].place, -1);
  ASSERT_EQ(plan->pieces[1].place, 0);
  EXPECT_EQ(plan->places.front(), (transport::DevicePlace{3, -1, 0, true}));
}

TEST(Targets, must_share_no_memory) {
  Bytes memory(60);
  const auto host = [&](std::size_t offset, std::uint64_t length) { return MemoryRange{memory.data() + offset, length}; };
  const auto npu = [&](std::size_t offset, std::int32_t device) {
    return MemoryRange{memory.data() + offset, 20, MemoryKind::kDevice, device};
  };
  EXPECT_THAT(check_apart(std::vector{host(0, 10), host(10, 0), host(10, 20), host(30, 30)}), IsOk());
  EXPECT_THAT(check_apart(std::vector{host(30, 30), host(0, 10), host(10, 20)}), IsOk());
  EXPECT_THAT(check_apart(std::vector{host(0, 20), npu(0, 0), npu(0, 1)}), IsOk()) << "addresses of other memory";
  EXPECT_THAT(check_apart(std::vector{host(5, 10), host(5, 0), host(5, 0)}), IsOk()) << "nothing is written there";
  for (const auto& targets : {std::vector{host(0, 10), host(9, 10)},
                              {host(9, 10), host(0, 10)},
                              {host(0, 30), host(5, 1)},
                              {host(40, 5), host(0, 41), host(50, 1)},
                              {npu(0, 3), npu(19, 3)}}) {
    const Status shared = check_apart(targets);
    EXPECT_THAT(shared, FailsWith(Code::kInvalidArgument));
    EXPECT_THAT(shared.message(), HasSubstr("share memory"));
  }
}

}  // namespace
}  // namespace ray_hixl::test
