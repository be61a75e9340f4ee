#include "object/placement.h"

#include <map>
#include <random>

#include "object/fixtures.h"
#include "object/metadata.h"

namespace ray_hixl::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Placement = Metadata::Placement;

constexpr std::uint64_t kBase = 0x12c1c0000000;

// A tensor as it is added; the sizes make up the metadata that the placements are read with.
struct Tensor {
  std::uint64_t bytes;
  std::uint64_t address;
  std::int32_t device = 0;
  std::uint64_t epoch = 1;
};

std::vector<Placement> place(const std::vector<Tensor>& tensors) {
  PlacementBuilder builder;
  for (std::size_t i = 0; i < tensors.size(); ++i)
    builder.add(i, tensors[i].bytes, tensors[i].device, tensors[i].epoch, tensors[i].address);
  return builder.take();
}

Metadata describe(const std::vector<std::uint64_t>& sizes, const std::vector<Placement>& placements) {
  std::vector<Layout> layouts;
  std::vector<Metadata::Run> runs;
  std::map<std::uint64_t, std::uint32_t> layout_of;
  for (const std::uint64_t size : sizes) {
    const auto [found, is_new] = layout_of.emplace(size, static_cast<std::uint32_t>(layouts.size()));
    if (is_new) layouts.push_back(uint8_layout(size));
    append_tensor(runs, found->second);
  }
  ObjectDescription object;
  object.layouts = layouts;
  object.runs = runs;
  object.placements = placements;
  return Metadata::decode(encode_metadata(object)).value();
}

using Visited = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
Visited visit(const std::vector<std::uint64_t>& sizes, const Placement& placement) {
  Visited visited;
  const Metadata metadata = describe(sizes, {placement});
  visit_placement(metadata, metadata.placements().front(),
                  [&](std::uint64_t tensor, std::uint64_t address) { visited.emplace_back(tensor, address); });
  return visited;
}

TEST(PlacementBuilder, has_nothing_at_first_and_after_take) {
  PlacementBuilder builder;
  EXPECT_THAT(builder.take(), IsEmpty());
  builder.add(3, 10, 1, 2, kBase);
  EXPECT_THAT(builder.take(), ElementsAre(Placement{3, 1, 1, 2, kBase, 1}));
  EXPECT_THAT(builder.take(), IsEmpty());
  builder.add(0, 10, 0, 2, kBase + 10);
  EXPECT_THAT(builder.take(), ElementsAre(Placement{0, 1, 0, 2, kBase + 10, 1})) << "as if it were new";
}

TEST(PlacementBuilder, a_packed_object_is_one_placement) {
  PlacementBuilder builder;
  std::uint64_t address = kBase;
  for (std::uint64_t i = 0; i < 9216; ++i) {
    const std::uint64_t bytes = 1 + (i * 7919) % 100000;
    builder.add(i, bytes, 3, 4, address);
    address += (bytes + 511) / 512 * 512;
  }
  EXPECT_THAT(builder.take(), ElementsAre(Placement{0, 9216, 3, 4, kBase, 512}));
}

TEST(PlacementBuilder, adjacent_tensors_are_one_placement) {
  EXPECT_THAT(place({{100, kBase}, {7, kBase + 100}, {1, kBase + 107}}), ElementsAre(Placement{0, 3, 0, 1, kBase, 1}));
}

TEST(PlacementBuilder, the_first_pair_that_tells_decides) {
  // 512 and 1024 bytes at multiples of 512: adjacent and packed at once.
  EXPECT_THAT(place({{512, kBase}, {1024, kBase + 512}, {10, kBase + 1536}}), ElementsAre(Placement{0, 3, 0, 1, kBase, 1}));
  EXPECT_THAT(place({{512, kBase}, {10, kBase + 512}, {10, kBase + 1024}}), ElementsAre(Placement{0, 3, 0, 1, kBase, 512}));
  EXPECT_THAT(place({{512, kBase}, {10, kBase + 512}, {10, kBase + 522}}), ElementsAre(Placement{0, 3, 0, 1, kBase, 1}));
}

TEST(PlacementBuilder, what_was_decided_holds_for_the_whole_placement) {
  EXPECT_THAT(place({{10, kBase}, {10, kBase + 512}, {10, kBase + 522}}),
              ElementsAre(Placement{0, 2, 0, 1, kBase, 512}, Placement{2, 1, 0, 1, kBase + 522, 1}));
  EXPECT_THAT(place({{10, kBase}, {10, kBase + 10}, {10, kBase + 512}}),
              ElementsAre(Placement{0, 2, 0, 1, kBase, 1}, Placement{2, 1, 0, 1, kBase + 512, 1}));
  EXPECT_THAT(place({{10, kBase}, {512, kBase + 512}, {10, kBase + 1024}}), ElementsAre(Placement{0, 3, 0, 1, kBase, 512}))
      << "a pair that both explain";
}

TEST(PlacementBuilder, what_was_decided_does_not_hold_for_the_next_placement) {
  EXPECT_THAT(place({{10, kBase}, {10, kBase + 10}, {10, kBase + 4096}, {10, kBase + 4608}}),
              ElementsAre(Placement{0, 2, 0, 1, kBase, 1}, Placement{2, 2, 0, 1, kBase + 4096, 512}));
}

TEST(PlacementBuilder, a_placement_may_begin_anywhere) {
  EXPECT_THAT(place({{10, kBase + 7}, {10, kBase + 512}, {10, kBase + 1024}}), ElementsAre(Placement{0, 3, 0, 1, kBase + 7, 512}));
}

TEST(PlacementBuilder, what_does_not_follow_begins_another_placement) {
  EXPECT_THAT(place({{10, kBase}, {10, kBase + 1024}}),
              ElementsAre(Placement{0, 1, 0, 1, kBase, 1}, Placement{1, 1, 0, 1, kBase + 1024, 1}))
      << "a gap";
  EXPECT_THAT(place({{10, kBase + 512}, {10, kBase}}), ElementsAre(Placement{0, 1, 0, 1, kBase + 512, 1}, Placement{1, 1, 0, 1, kBase, 1}))
      << "backwards";
  EXPECT_THAT(place({{10, kBase}, {10, kBase}}), ElementsAre(Placement{0, 1, 0, 1, kBase, 1}, Placement{1, 1, 0, 1, kBase, 1}))
      << "aliases";
  EXPECT_THAT(place({{10, kBase, 0}, {10, kBase + 512, 1}}),
              ElementsAre(Placement{0, 1, 0, 1, kBase, 1}, Placement{1, 1, 1, 1, kBase + 512, 1}))
      << "another device";
  EXPECT_THAT(place({{10, kBase, 0, 1}, {10, kBase + 512, 0, 2}}),
              ElementsAre(Placement{0, 1, 0, 1, kBase, 1}, Placement{1, 1, 0, 2, kBase + 512, 1}))
      << "another epoch";
}

TEST(PlacementBuilder, a_tensor_in_host_memory_ends_a_placement) {
  PlacementBuilder builder;
  builder.add(1, 10, 0, 1, kBase);
  builder.add(3, 10, 0, 1, kBase + 512);
  EXPECT_THAT(builder.take(), ElementsAre(Placement{1, 1, 0, 1, kBase, 1}, Placement{3, 1, 0, 1, kBase + 512, 1}));
}

TEST(PlacementBuilder, tensors_without_bytes_break_nothing) {
  EXPECT_THAT(place({{10, kBase}, {0, 0}, {0, 0, 5, 9}, {10, kBase + 512}, {0, 0}}), ElementsAre(Placement{0, 5, 0, 1, kBase, 512}));
  EXPECT_THAT(place({{0, 0}, {0, 0, 5, 9}, {10, kBase, 2}, {10, kBase + 10, 2}}), ElementsAre(Placement{0, 4, 2, 1, kBase, 1}))
      << "they go with the neighbour behind them if there is none before";
  EXPECT_THAT(place({{10, kBase}, {0, 0}, {10, kBase + 4096}}),
              ElementsAre(Placement{0, 2, 0, 1, kBase, 1}, Placement{2, 1, 0, 1, kBase + 4096, 1}));
  EXPECT_THAT(place({{0, 0, 3}, {0, 0, 3}}), ElementsAre(Placement{0, 2, 3, 0, 0, 1})) << "on the device, at no address";
  PlacementBuilder builder;
  builder.add(0, 0, 2, 1, 0);
  builder.add(2, 10, 0, 1, kBase);
  EXPECT_THAT(builder.take(), ElementsAre(Placement{0, 1, 2, 0, 0, 1}, Placement{2, 1, 0, 1, kBase, 1})) << "tensor 1 is in host memory";
}

TEST(Placements, of_tensors_without_bytes_travel_without_an_address) {
  const Placement nowhere{0, 2, 3, 0, 0, 1};
  EXPECT_THAT(describe({0, 0, 10}, {nowhere}).placements(), ElementsAre(nowhere));
  EXPECT_THAT(visit({0, 0, 10}, nowhere), ElementsAre(std::pair(0u, 0u), std::pair(1u, 0u)));
}

TEST(VisitPlacement, gives_every_tensor_its_address) {
  EXPECT_EQ(visit({10, 512, 600}, {0, 3, 0, 1, kBase, 512}), (Visited{{0, kBase}, {1, kBase + 512}, {2, kBase + 1024}}));
  EXPECT_EQ(visit({10, 512, 600}, {0, 3, 0, 1, kBase, 1}), (Visited{{0, kBase}, {1, kBase + 10}, {2, kBase + 522}}));
  EXPECT_EQ(visit({10, 10, 10}, {0, 3, 0, 1, 4097, 4096}), (Visited{{0, 4097}, {1, 8192}, {2, 12288}}));
}

TEST(VisitPlacement, begins_and_ends_within_runs) {
  EXPECT_EQ(visit({8, 8, 8, 4, 4, 4}, {2, 2, 0, 1, kBase, 1}), (Visited{{2, kBase}, {3, kBase + 8}}));
  EXPECT_EQ(visit({8, 8, 8, 8, 8, 8}, {4, 1, 0, 1, kBase, 1}), (Visited{{4, kBase}}));
}

TEST(VisitPlacement, tensors_without_bytes_are_where_the_next_one_would_begin) {
  EXPECT_EQ(visit({0, 10, 0, 0, 10, 0}, {0, 6, 0, 1, kBase + 1, 512}),
            (Visited{{0, kBase + 1}, {1, kBase + 1}, {2, kBase + 512}, {3, kBase + 512}, {4, kBase + 512}, {5, kBase + 1024}}));
}

// Tensors of all sizes, some without bytes, some on the host, packed, adjacent, apart, on two devices.
TEST(Placements, say_where_every_tensor_is) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::uint64_t> sizes;
    std::map<std::uint64_t, Tensor> on_device;
    PlacementBuilder builder;
    std::uint64_t next = kBase + random() % 1000;
    for (std::uint64_t i = 0; i < 60; ++i) {
      constexpr std::uint64_t kSizes[] = {0, 1, 10, 511, 512, 513, 1024, 70000};
      sizes.push_back(kSizes[random() % std::size(kSizes)]);
      if (random() % 12 == 0) continue;  // host memory
      const std::uint64_t step = random() % 16;
      if (step < 8) next = (next + 511) / 512 * 512;
      if (step == 0) next += 512 * (random() % 3);
      const Tensor tensor{sizes.back(), sizes.back() == 0 ? 0 : next, static_cast<std::int32_t>(random() % 20 == 0),
                          1 + random() % 20 / 19};
      builder.add(i, tensor.bytes, tensor.device, tensor.epoch, tensor.address);
      next += tensor.bytes;
      on_device.emplace(i, tensor);
    }
    const Metadata metadata = describe(sizes, builder.take());
    for (const Placement& placement : metadata.placements()) {
      visit_placement(metadata, placement, [&](std::uint64_t tensor, std::uint64_t address) {
        const auto found = on_device.find(tensor);
        ASSERT_NE(found, on_device.end());
        if (found->second.bytes != 0) {
          EXPECT_EQ(address, found->second.address);
          EXPECT_EQ(placement.device, found->second.device);
          EXPECT_EQ(placement.epoch, found->second.epoch);
        }
        on_device.erase(found);
      });
    }
    for (const auto& [index, tensor] : on_device) EXPECT_EQ(tensor.bytes, 0u) << index << " is in no placement";
  }
}

TEST(Placements, are_checked_without_a_step_for_each_tensor) {
  const std::vector<Layout> layouts = {uint8_layout(1)};
  const std::vector<Metadata::Run> runs = {{0, 0, 1u << 24}};
  std::vector<Placement> placements;
  for (std::uint64_t i = 0; i < 10000; ++i) placements.push_back({i, 1, 0, 0, 1, 1});
  placements.push_back({10000, (1u << 24) - 10000, 0, 0, 1, 4096});
  EXPECT_THAT(check_placements(layouts, runs, placements), IsOk());
  placements.back().address = ~std::uint64_t{0} - (std::uint64_t{1} << 36) + 10000 * 4096 + 1;
  EXPECT_THAT(check_placements(layouts, runs, placements), FailsWith(Code::kInvalidArgument));
  placements.back().address -= 4096;
  EXPECT_THAT(check_placements(layouts, runs, placements), IsOk());
}

TEST(Placements, of_a_packed_object_take_a_few_bytes) {
  const std::vector<Placement> placements = {{0, 9216, 3, 4, kBase, 512}};
  ObjectDescription object;
  const std::size_t without = encode_metadata(object).size();
  object.placements = placements;
  EXPECT_LE(encode_metadata(object).size() - without, 16u);
}

}  // namespace
}  // namespace ray_hixl::test
