#include "device/slabs.h"

#include <algorithm>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "device/slabs_fixture.h"
#include "support/event.h"
#include "support/eventually.h"
#include "support/yardstick.h"

namespace ray_hixl::device {
namespace {

using test::Event;

TEST_F(SlabsTest, a_block_is_aligned_and_counted) {
  const auto slabs = make();
  EXPECT_EQ(slabs->stats().segments, 0u) << "nothing is taken before it is needed";
  BlockPtr first = allocate(slabs, 1);
  const BlockPtr second = allocate(slabs, 513);
  const BlockPtr third = allocate(slabs, 1024);
  EXPECT_EQ(offset_of(first), 0u);
  EXPECT_EQ(offset_of(second), kStep);
  EXPECT_EQ(offset_of(third), 3 * kStep);
  EXPECT_EQ(second->length, 513u) << "as asked for";
  ArenaStats stats = slabs->stats();
  EXPECT_EQ(stats.segments, 1u);
  EXPECT_EQ(stats.mapped_bytes, kSlab);
  EXPECT_EQ(stats.used_bytes, 5 * kStep);
  EXPECT_EQ(stats.live_blocks, 3u);
  EXPECT_EQ(stats.allocations, 3u);
  EXPECT_EQ(stats.recycled, 2u) << "all but the first came without new memory";
  first.reset();
  stats = slabs->stats();
  EXPECT_EQ(stats.used_bytes, 4 * kStep) << "pending blocks are not in use";
  EXPECT_EQ(stats.live_blocks, 2u);
  EXPECT_EQ(stats.mapped_bytes, kSlab);
}

TEST_F(SlabsTest, zero_bytes_are_refused) {
  EXPECT_EQ(make()->allocate(0, fence, Deadline::never()).status().code(), Code::kInvalidArgument);
}

TEST_F(SlabsTest, absurd_sizes_are_refused_and_the_slabs_go_on) {
  const auto slabs = make(kSlab, ~std::uint64_t{0});
  for (const std::uint64_t bytes : {(std::uint64_t{1} << 62) + 1, ~std::uint64_t{0} - 1, ~std::uint64_t{0}}) {
    const Status status = slabs->allocate(bytes, fence, Deadline::never()).status();
    EXPECT_EQ(status.code(), Code::kOutOfMemory);
    EXPECT_NE(status.message().find(std::to_string(bytes)), std::string::npos) << status.message();
    EXPECT_EQ(slabs->reserve(bytes).code(), Code::kOutOfMemory);
  }
  EXPECT_TRUE(log.taken.empty());
  EXPECT_NE(allocate(slabs, 1), nullptr);
}

// ---- When a freed block is free.

TEST_F(SlabsTest, free_memory_needs_no_fence) {
  const auto slabs = make();
  BlockPtr block = allocate(slabs, kSlab / 2);
  block.reset();
  EXPECT_EQ(offset_of(allocate(slabs, kSlab / 2)), kSlab / 2) << "what was never used first";
  EXPECT_EQ(fences, 0);
}

TEST_F(SlabsTest, a_freed_block_is_reused_after_one_fence) {
  const auto slabs = make();
  for (int round = 1; round <= 3; ++round) {
    EXPECT_EQ(offset_of(allocate(slabs, kSlab)), 0u);
    EXPECT_EQ(fences, round - 1);
  }
  EXPECT_EQ(slabs->stats().segments, 1u);
  EXPECT_EQ(slabs->stats().recycled, 2u);
}

TEST_F(SlabsTest, one_fence_frees_all_that_were_pending) {
  const auto slabs = make();
  std::vector<BlockPtr> blocks;
  for (std::uint64_t i = 0; i < kSlab / kStep; ++i) blocks.push_back(allocate(slabs, kStep));  // far more than are freed in one step
  std::shuffle(blocks.begin(), blocks.end(), std::mt19937(7));
  blocks.clear();
  EXPECT_EQ(offset_of(allocate(slabs, kSlab)), 0u) << "they merge, whatever their order";
  EXPECT_EQ(fences, 1);
}

TEST_F(SlabsTest, nothing_is_pending_nothing_is_fenced) {
  const auto slabs = make(kSlab, 2 * kSlab);
  const BlockPtr first = allocate(slabs, kSlab);
  const BlockPtr second = allocate(slabs, kSlab);
  EXPECT_FALSE(slabs->allocate(1, fence, Deadline::never()).is_ok());
  EXPECT_EQ(fences, 0);
}

// A fence waits for something that another thread can only do once it dropped a block: as with Python's GIL.
TEST_F(SlabsTest, a_fence_that_is_asked_does_not_free_blocks_that_die_meanwhile) {
  const auto slabs = make(kSlab, 2 * kSlab);
  BlockPtr early = allocate(slabs, kSlab);
  BlockPtr late = allocate(slabs, kSlab);
  std::byte* const freed_early = early->address;
  std::byte* const freed_late = late->address;
  early.reset();
  Event fencing;
  Event dropped;
  const SetFence slow = [&] {
    fencing.set();
    EXPECT_TRUE(dropped.wait());
    return fence();
  };
  std::thread allocator([&] {
    const Result<BlockPtr> block = slabs->allocate(kSlab, slow, Deadline::never());
    ASSERT_TRUE(block.is_ok()) << block.status().to_string();
    EXPECT_EQ((*block)->address, freed_early);
    // `late` died in the meantime, but is not free: another fence is needed.
    const Result<BlockPtr> again = slabs->allocate(kSlab, fence, Deadline::never());
    ASSERT_TRUE(again.is_ok()) << again.status().to_string();
    EXPECT_EQ((*again)->address, freed_late);
    EXPECT_EQ(fences, 2);
  });
  EXPECT_TRUE(fencing.wait());
  late.reset();
  dropped.set();
  allocator.join();
}

TEST_F(SlabsTest, a_new_slab_is_taken_rather_than_waited_for_the_device) {
  const auto slabs = make();
  allocate(slabs, kSlab).reset();
  work.is_done = false;
  const auto begin = Clock::now();
  BlockPtr other = allocate(slabs, kSlab);
  EXPECT_LT(Clock::now() - begin, test::scaled(std::chrono::seconds(1)));
  EXPECT_EQ(offset_of(other), kSlab);
  work.is_done = true;
  EXPECT_EQ(offset_of(allocate(slabs, kSlab)), 0u);
  EXPECT_EQ(fences, 1) << "the one that was set is kept, and asked again";
}

TEST_F(SlabsTest, at_the_cap_the_device_has_until_the_deadline) {
  const auto slabs = make(kSlab, kSlab);
  allocate(slabs, kSlab).reset();
  work.is_done = false;
  const auto begin = Clock::now();
  const Status status = slabs->allocate(kSlab, fence, Deadline::in(std::chrono::milliseconds(100))).status();
  EXPECT_EQ(status.code(), Code::kDeviceBusy);
  EXPECT_NE(status.message().find("and 2097152 were freed but may still be read by the device"), std::string::npos) << status.message();
  EXPECT_GE(Clock::now() - begin, std::chrono::milliseconds(100));
  std::thread device([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    work.is_done = true;
  });
  EXPECT_EQ(offset_of(allocate(slabs, kSlab)), 0u);
  device.join();
  EXPECT_EQ(log.taken.size(), 1u);
}

TEST_F(SlabsTest, a_device_without_room_has_until_the_deadline_too) {
  const auto slabs = make();
  allocate(slabs, kSlab).reset();
  work.is_done = false;
  log.largest = 0;
  const Status status = slabs->allocate(kSlab, fence, Deadline::in(std::chrono::milliseconds(100))).status();
  EXPECT_EQ(status.code(), Code::kDeviceBusy);
  EXPECT_NE(status.message().find("the device is full"), std::string::npos) << status.message();
  EXPECT_EQ(log.taken.size(), 2u) << "and is not asked again and again";
}

TEST_F(SlabsTest, nobody_waits_for_memory_that_would_not_suffice) {
  const auto slabs = make(2 * kSlab, 2 * kSlab);
  const BlockPtr kept = allocate(slabs, kSlab);
  allocate(slabs, kSlab).reset();
  work.is_done = false;
  EXPECT_EQ(slabs->allocate(2 * kSlab, fence, Deadline::never()).status().code(), Code::kOutOfMemory);
}

TEST_F(SlabsTest, one_that_waits_for_the_device_does_not_delay_others) {
  const auto slabs = make(2 * kSlab, 2 * kSlab);
  BlockPtr kept = allocate(slabs, kSlab);
  allocate(slabs, kSlab).reset();
  work.is_done = false;
  std::thread waiting([&] { EXPECT_NE(allocate(slabs, kSlab), nullptr); });
  EXPECT_TRUE(test::eventually([&] { return fences > 0; }));
  const Status late = slabs->allocate(kSlab, fence, Deadline::in(std::chrono::milliseconds(50))).status();
  EXPECT_EQ(late.code(), Code::kDeviceBusy) << "at its own deadline";
  work.is_done = true;
  waiting.join();
}

TEST_F(SlabsTest, a_block_dies_while_a_slab_is_taken) {
  const auto slabs = make();
  BlockPtr block = allocate(slabs, kSlab);
  Event taking;
  Event dropped;
  log.in_take = [&] {
    taking.set();
    EXPECT_TRUE(dropped.wait());
  };
  std::thread allocator([&] { allocate(slabs, kSlab); });
  EXPECT_TRUE(taking.wait());
  block.reset();
  EXPECT_EQ(slabs->stats().live_blocks, 0u);
  dropped.set();
  allocator.join();
}

TEST_F(SlabsTest, only_one_of_two_that_find_no_room_grows) {
  const auto slabs = make(8 * kSlab);
  const BlockPtr reused = allocate(slabs, 8 * kSlab);
  Event taking;
  Event go_on;
  log.in_take = [&] {
    taking.set();
    EXPECT_TRUE(go_on.wait());
  };
  BlockPtr blocks[2];
  std::thread first([&] { blocks[0] = allocate(slabs, kSlab); });
  EXPECT_TRUE(taking.wait());
  std::thread second([&] { blocks[1] = allocate(slabs, kSlab); });
  go_on.set();
  first.join();
  second.join();
  EXPECT_EQ(log.taken.size(), 2u);
  EXPECT_NE(blocks[0]->address, blocks[1]->address);
}

// The runtime may take its time for one of them, and that is not the other's.
TEST_F(SlabsTest, who_waits_for_another_that_grows_has_a_deadline_of_its_own) {
  const auto slabs = make(8 * kSlab);
  const BlockPtr used = allocate(slabs, 8 * kSlab);
  Event taking;
  Event go_on;
  log.in_take = [&] {
    taking.set();
    EXPECT_TRUE(go_on.wait());
  };
  std::thread slow([&] { EXPECT_NE(allocate(slabs, kSlab), nullptr); });
  EXPECT_TRUE(taking.wait());
  const Status late = slabs->allocate(kSlab, fence, Deadline::in(std::chrono::milliseconds(50))).status();
  EXPECT_EQ(late.code(), Code::kDeviceBusy);
  EXPECT_NE(late.message().find("another thread"), std::string::npos) << late.message();
  go_on.set();
  slow.join();
}

TEST_F(SlabsTest, a_failed_fence_frees_nothing_and_is_the_outcome) {
  const auto slabs = make();
  allocate(slabs, kSlab).reset();
  work.error = Status(Code::kNotAvailable, "the device is lost");
  const Status status = slabs->allocate(kSlab, fence, Deadline::never()).status();
  EXPECT_EQ(status.code(), Code::kNotAvailable);
  EXPECT_EQ(status.message(), "the device is lost");
  EXPECT_EQ(log.taken.size(), 1u) << "a slab is not taken instead";
  work.error = Status::ok();
  EXPECT_EQ(offset_of(allocate(slabs, kSlab)), 0u);
  EXPECT_EQ(fences, 2) << "set anew";
}

// ---- Growth.

TEST_F(SlabsTest, what_there_is_doubles) {
  const auto slabs = make(4 * kSlab);
  std::vector<BlockPtr> blocks;
  for (int i = 0; i < 16; ++i) blocks.push_back(allocate(slabs, kSlab));
  EXPECT_EQ(log.taken, (std::vector<std::uint64_t>{4 * kSlab, 4 * kSlab, 8 * kSlab}));
  EXPECT_EQ(slabs->stats().mapped_bytes, 16 * kSlab);
  EXPECT_EQ(slabs->stats().segments, 3u);
}

TEST_F(SlabsTest, blocks_taken_together_lie_side_by_side_and_go_back_one_by_one) {
  const auto slabs = make();
  memory::Blocks blocks;
  ASSERT_TRUE(slabs->allocate_each(std::vector<std::uint64_t>{1, 513, 512}, fence, Deadline::never(), blocks).is_ok());
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(offset_of(blocks[0]), 0u);
  EXPECT_EQ(offset_of(blocks[1]), kStep);
  EXPECT_EQ(offset_of(blocks[2]), 3 * kStep);
  EXPECT_EQ(blocks[1]->length, 513u) << "as asked for";
  EXPECT_EQ(slabs->stats().live_blocks, 3u);
  blocks[1].reset();
  EXPECT_EQ(slabs->stats().used_bytes, 2 * kStep);
  blocks.clear();
  EXPECT_EQ(slabs->stats().live_blocks, 0u);
  EXPECT_EQ(offset_of(allocate(slabs, kSlab)), 0u);
}

TEST_F(SlabsTest, many_blocks_use_what_is_free_before_a_new_slab) {
  const auto slabs = make(4 * kSlab);
  const BlockPtr first = allocate(slabs, kSlab / 2);
  memory::Blocks blocks;
  ASSERT_TRUE(slabs->allocate_each(std::vector<std::uint64_t>(70, kSlab / 16), fence, Deadline::never(), blocks).is_ok());
  EXPECT_EQ(offset_of(blocks[0]), kSlab / 2);
  EXPECT_EQ(offset_of(blocks[55]), 4 * kSlab - kSlab / 16);
  EXPECT_EQ(log.taken, (std::vector<std::uint64_t>{4 * kSlab, 4 * kSlab}));
}

TEST_F(SlabsTest, what_there_was_room_for_stays_when_the_rest_has_none) {
  const auto slabs = make(kSlab, kSlab);
  ASSERT_TRUE(slabs->reserve(kSlab).is_ok());
  memory::Blocks blocks;
  EXPECT_EQ(slabs->allocate_each(std::vector<std::uint64_t>(17, kSlab / 16), fence, Deadline::never(), blocks).code(), Code::kOutOfMemory);
  EXPECT_EQ(blocks.size(), 16u);
  EXPECT_EQ(slabs->allocate_each(std::vector<std::uint64_t>{512, 0}, fence, Deadline::never(), blocks).code(), Code::kInvalidArgument);
}

TEST_F(SlabsTest, a_large_block_has_a_slab_of_its_size) {
  const auto slabs = make();
  const BlockPtr block = allocate(slabs, 5 * kSlab + 1);
  EXPECT_EQ(log.taken, (std::vector<std::uint64_t>{6 * kSlab})) << "in whole granules";
  const BlockPtr larger = allocate(slabs, 20 * kSlab);
  EXPECT_EQ(log.taken.back(), 20 * kSlab);
}

TEST_F(SlabsTest, the_first_slab_has_whole_granules) {
  EXPECT_NE(allocate(make(1), 1), nullptr);
  EXPECT_NE(allocate(make(0), 1), nullptr);
  EXPECT_NE(allocate(make(kSlab + 1), 1), nullptr);
  EXPECT_EQ(log.taken, (std::vector<std::uint64_t>{kSlab, kSlab, 2 * kSlab}));
}

TEST_F(SlabsTest, growth_ends_at_the_cap) {
  const auto slabs = make(4 * kSlab, 7 * kSlab + 12345);
  std::vector<BlockPtr> blocks;
  for (int i = 0; i < 7; ++i) blocks.push_back(allocate(slabs, kSlab));
  EXPECT_EQ(log.taken, (std::vector<std::uint64_t>{4 * kSlab, 3 * kSlab})) << "the second one is cut";
  EXPECT_EQ(slabs->allocate(1, fence, Deadline::never()).status().code(), Code::kOutOfMemory);
  blocks.pop_back();
  EXPECT_NE(allocate(slabs, kSlab), nullptr) << "it goes on";
  EXPECT_EQ(slabs->stats().mapped_bytes, 7 * kSlab);
}

TEST_F(SlabsTest, the_first_slab_is_not_beyond_the_cap) {
  const auto slabs = make(8 * kSlab, 2 * kSlab);
  EXPECT_NE(allocate(slabs, 1), nullptr);
  EXPECT_EQ(log.taken, std::vector<std::uint64_t>{2 * kSlab});
}

TEST_F(SlabsTest, out_of_memory_says_what_is_there_and_what_to_do) {
  const auto slabs = make(2 * kSlab, 2 * kSlab);
  const BlockPtr block = allocate(slabs, kSlab);
  allocate(slabs, kStep).reset();
  work.is_done = false;
  const Status status = slabs->allocate(2 * kSlab, fence, Deadline::never()).status();
  EXPECT_EQ(status.code(), Code::kOutOfMemory);
  EXPECT_EQ(
      status.message(),
      "no room for 4194304 bytes in device memory: 2097152 bytes are in use and 512 were freed but may still be read by the device, in "
      "slabs of 4194304 bytes, which may have at most 4194304 bytes altogether; raise slab_cap_bytes or hold fewer tensors");
}

TEST_F(SlabsTest, slabs_side_by_side_do_not_merge) {
  const auto slabs = make(kSlab, 2 * kSlab);
  BlockPtr first = allocate(slabs, kSlab);
  BlockPtr second = allocate(slabs, kSlab);
  EXPECT_EQ(second->address, first->address + kSlab) << "the source of these tests puts them so";
  first.reset();
  second.reset();
  EXPECT_EQ(slabs->allocate(2 * kSlab, fence, Deadline::never()).status().code(), Code::kOutOfMemory);
  const auto unused = make(kSlab, 2 * kSlab);
  EXPECT_TRUE(unused->reserve(kSlab).is_ok());
  EXPECT_TRUE(unused->reserve(2 * kSlab).is_ok());
  EXPECT_EQ(unused->allocate(2 * kSlab, fence, Deadline::never()).status().code(), Code::kOutOfMemory);
}

TEST_F(SlabsTest, what_the_source_says_is_the_outcome) {
  const auto slabs = make();
  log.error = Status(Code::kNotAvailable, "no device 7");
  const Status status = slabs->allocate(1, fence, Deadline::never()).status();
  EXPECT_EQ(status.code(), Code::kNotAvailable);
  EXPECT_EQ(status.message(), "a new slab of 2097152 bytes of device memory: no device 7");
  EXPECT_EQ(slabs->reserve(1).code(), Code::kNotAvailable);
  EXPECT_EQ(slabs->stats().segments, 0u);
  EXPECT_EQ(slabs->stats().live_blocks, 0u);
  log.error = Status::ok();
  EXPECT_NE(allocate(slabs, 1), nullptr) << "it goes on";
}

TEST_F(SlabsTest, a_full_device_is_asked_for_just_enough) {
  const auto slabs = make(8 * kSlab);
  log.largest = 2 * kSlab;
  const BlockPtr block = allocate(slabs, kSlab + 1);
  EXPECT_EQ(log.taken, (std::vector<std::uint64_t>{8 * kSlab, 2 * kSlab}));
  EXPECT_EQ(slabs->stats().mapped_bytes, 2 * kSlab);
  const Status status = slabs->allocate(3 * kSlab, fence, Deadline::never()).status();
  EXPECT_EQ(status.code(), Code::kOutOfMemory);
  EXPECT_NE(status.message().find("the device is full"), std::string::npos) << status.message();
  EXPECT_EQ(log.taken.size(), 3u) << "what is just enough is not asked for twice";
}

// ---- reserve() and holds().

TEST_F(SlabsTest, reserved_memory_is_there) {
  const auto slabs = make();
  EXPECT_TRUE(slabs->reserve(0).is_ok());
  EXPECT_TRUE(log.taken.empty());
  EXPECT_TRUE(slabs->reserve(5 * kSlab + 1).is_ok());
  EXPECT_TRUE(slabs->reserve(6 * kSlab).is_ok());
  EXPECT_TRUE(slabs->reserve(1).is_ok());
  EXPECT_EQ(log.taken, std::vector<std::uint64_t>{6 * kSlab}) << "beyond first_bytes, in one slab";
  EXPECT_EQ(slabs->stats().allocations, 0u);
  EXPECT_EQ(offset_of(allocate(slabs, 6 * kSlab)), 0u);
  EXPECT_EQ(slabs->stats().recycled, 1u);
  EXPECT_TRUE(slabs->reserve(7 * kSlab).is_ok()) << "altogether, in use or not";
  EXPECT_EQ(log.taken.back(), kSlab);
}

TEST_F(SlabsTest, the_first_reserved_slab_has_at_least_first_bytes) {
  EXPECT_TRUE(make(4 * kSlab)->reserve(1).is_ok());
  EXPECT_EQ(log.taken, std::vector<std::uint64_t>{4 * kSlab});
}

TEST_F(SlabsTest, no_more_is_reserved_than_the_cap) {
  const auto slabs = make(kSlab, 4 * kSlab + 1);
  EXPECT_TRUE(slabs->reserve(4 * kSlab).is_ok());
  for (const std::uint64_t bytes : {4 * kSlab + 1, 4 * kSlab + 2, kNoCap}) {
    const Status status = slabs->reserve(bytes);
    EXPECT_EQ(status.code(), Code::kOutOfMemory);
    EXPECT_NE(status.message().find(std::to_string(bytes) + " bytes of device memory cannot be reserved"), std::string::npos);
    EXPECT_NE(status.message().find("at most 8388609 bytes"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("raise slab_cap_bytes"), std::string::npos) << status.message();
  }
  EXPECT_EQ(log.taken.size(), 1u);
}

TEST_F(SlabsTest, holds_what_is_inside_one_slab) {
  const auto slabs = make(kSlab, 2 * kSlab);
  auto* const begin = reinterpret_cast<std::byte*>(kFirstAddress);
  EXPECT_FALSE(slabs->holds(begin, 1));
  EXPECT_TRUE(slabs->reserve(kSlab).is_ok());
  EXPECT_TRUE(slabs->holds(begin, kSlab));
  EXPECT_TRUE(slabs->holds(begin + kSlab - 1, 1));
  EXPECT_FALSE(slabs->holds(begin, kSlab + 1));
  EXPECT_FALSE(slabs->holds(begin - 1, 2));
  EXPECT_FALSE(slabs->holds(begin + kSlab, 1));
  EXPECT_FALSE(slabs->holds(begin + 1, ~std::uint64_t{0}));
  EXPECT_FALSE(slabs->holds(nullptr, 1));
  EXPECT_TRUE(slabs->reserve(2 * kSlab).is_ok());
  EXPECT_TRUE(slabs->holds(begin + kSlab, kSlab));
  EXPECT_FALSE(slabs->holds(begin + kSlab - 1, 2)) << "across two slabs that lie side by side";
}

TEST_F(SlabsTest, whoever_waits_for_room_hears_of_the_block_that_dies_meanwhile) {
  const auto slabs = make(kSlab, kSlab);
  BlockPtr block = allocate(slabs, kSlab);
  const std::uint64_t ticket = slabs->freed_ticket();
  EXPECT_FALSE(slabs->wait_until_freed(ticket, Deadline::in(std::chrono::milliseconds(1)))) << "nothing has died";
  std::thread dropper([&] { block.reset(); });
  EXPECT_TRUE(slabs->wait_until_freed(ticket, Deadline::never()));
  dropper.join();
  EXPECT_TRUE(slabs->wait_until_freed(ticket, Deadline::never())) << "it has died before";
  EXPECT_NE(allocate(slabs, kSlab), nullptr);
}

TEST_F(SlabsTest, nobody_waits_for_room_in_closed_slabs) {
  const auto slabs = make(kSlab, kSlab);
  const BlockPtr block = allocate(slabs, kSlab);
  std::thread closer([&] { slabs->close(); });
  EXPECT_FALSE(slabs->wait_until_freed(slabs->freed_ticket(), Deadline::never()));
  closer.join();
}

}  // namespace
}  // namespace ray_hixl::device
