// How slabs end, and many threads at once.
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "device/slabs_fixture.h"
#include "support/child.h"
#include "support/event.h"
#include "support/eventually.h"

namespace ray_hixl::device {
namespace {

using test::Event;
using test::eventually;

TEST_F(SlabsTest, close_gives_back_slabs_without_live_blocks_and_the_others_with_their_last_block) {
  const auto slabs = make(kSlab, 3 * kSlab);
  BlockPtr freed_before = allocate(slabs, kSlab);
  BlockPtr first = allocate(slabs, kStep);
  BlockPtr second = allocate(slabs, kStep);
  freed_before.reset();
  slabs->close();
  ASSERT_EQ(log.given_back.size(), 1u);
  EXPECT_EQ(log.given_back[0].second, kSlab);
  EXPECT_EQ(slabs->allocate(1, fence, Deadline::never()).status().code(), Code::kClosed);
  EXPECT_EQ(slabs->reserve(0).code(), Code::kClosed);
  EXPECT_EQ(fences, 0);
  EXPECT_TRUE(slabs->holds(second->address, kStep));
  first.reset();
  EXPECT_EQ(log.given_back.size(), 1u) << "a block lives in it";
  std::byte* const slab = second->address - kStep;
  second.reset();
  ASSERT_EQ(log.given_back.size(), 2u);
  EXPECT_EQ(log.given_back[1].first, slab);
  const ArenaStats stats = slabs->stats();
  EXPECT_EQ(stats.segments, 0u);
  EXPECT_EQ(stats.mapped_bytes, 0u);
  EXPECT_EQ(stats.used_bytes, 0u);
  EXPECT_EQ(stats.live_blocks, 0u);
  slabs->close();
  EXPECT_EQ(log.given_back.size(), 2u);
}

TEST_F(SlabsTest, a_block_outlives_every_other_pointer_to_its_slabs) {
  auto slabs = make();
  const std::weak_ptr<Slabs> watch = slabs;
  BlockPtr block = allocate(slabs, 1);
  slabs.reset();
  EXPECT_FALSE(watch.expired());
  EXPECT_FALSE(log.is_gone);
  block.reset();
  EXPECT_TRUE(watch.expired());
  EXPECT_EQ(bytes_given_back(), kSlab) << "without close(), too";
  EXPECT_TRUE(log.is_gone);
}

TEST_F(SlabsTest, a_slab_that_arrives_after_close_goes_back) {
  const auto slabs = make();
  EXPECT_TRUE(slabs->reserve(kSlab).is_ok());
  Event taking;
  Event go_on;
  log.in_take = [&] {
    taking.set();
    EXPECT_TRUE(go_on.wait());
  };
  std::thread allocator([&] { EXPECT_EQ(slabs->allocate(2 * kSlab, fence, Deadline::never()).status().code(), Code::kClosed); });
  EXPECT_TRUE(taking.wait());
  std::atomic<bool> is_closed{false};
  std::thread closer([&] {
    slabs->close();
    is_closed = true;
    EXPECT_FALSE(log.is_called) << "it waits for calls of the source";
    EXPECT_EQ(bytes_given_back(), 3 * kSlab) << "all went back before it returned";
  });
  EXPECT_TRUE(eventually([&] { return slabs->allocate(1, fence, Deadline::never()).status().code() == Code::kClosed; }));
  EXPECT_FALSE(is_closed);
  go_on.set();
  allocator.join();
  closer.join();
  EXPECT_EQ(slabs->stats().mapped_bytes, 0u);
}

TEST_F(SlabsTest, closed_during_a_fence_gives_nothing_out) {
  const auto slabs = make();
  allocate(slabs, kSlab).reset();
  const SetFence closing = [&] {
    slabs->close();
    return fence();
  };
  const Result<BlockPtr> block = slabs->allocate(kSlab, closing, Deadline::never());
  EXPECT_EQ(block.status().code(), Code::kClosed);
  EXPECT_EQ(bytes_given_back(), kSlab);
}

TEST_F(SlabsTest, a_dying_block_does_not_wait_for_the_source) {
  const auto slabs = make();
  BlockPtr first = allocate(slabs, kSlab);
  BlockPtr second = allocate(slabs, kSlab);
  slabs->close();
  Event giving;
  Event go_on;
  log.in_give_back = [&] {
    if (log.given_back.size() > 1) return;
    giving.set();
    EXPECT_TRUE(go_on.wait());
  };
  std::thread dropper([&] { first.reset(); });
  EXPECT_TRUE(giving.wait());
  second.reset();  // would stand still here, its thread with the GIL
  EXPECT_TRUE(log.is_called);
  go_on.set();
  dropper.join();
  EXPECT_EQ(log.given_back.size(), 2u) << "the thread that was busy with the source gives that back, too";
}

TEST_F(SlabsTest, in_a_forked_child_a_dying_block_does_nothing_and_none_is_made) {
  auto slabs = make();
  BlockPtr first = allocate(slabs, kStep);
  BlockPtr last = allocate(slabs, kSlab - kStep);
  EXPECT_TRUE(test::in_child([&] {
    const Code made = slabs->allocate(1, fence, Deadline::never()).status().code();
    const Code reserved = slabs->reserve(2 * kSlab).code();
    first.reset();
    slabs->close();
    const bool is_as_it_was = slabs->stats().segments == 1 && slabs->stats().live_blocks == 2;
    slabs.reset();
    last.reset();  // the last pointer: the source is the parent's
    return made == Code::kClosed && reserved == Code::kClosed && is_as_it_was && log.given_back.empty() && !log.is_gone;
  }));
  EXPECT_NE(allocate(slabs, 1), nullptr);
}

// ---- Many threads. The device is a list of steps of memory, each with its owner and the last fence that was set when it was freed.

class DeviceMap {
 public:
  explicit DeviceMap(std::uint64_t bytes) : steps_(bytes / kStep) {}

  // Passed when it is asked for the third time.
  std::shared_ptr<Fence> set_fence() { return std::make_shared<Numbered>(*this, ++set_); }
  void own(const memory::Block& block, bool mine) {
    const std::uint64_t first = (reinterpret_cast<std::uint64_t>(block.address) - kFirstAddress) / kStep;
    const std::uint64_t count = (block.length + kStep - 1) / kStep;
    const std::uint64_t fence = mine ? passed_ : set_;
    ASSERT_LE(first + count, steps_.size());
    for (std::uint64_t i = first; i < first + count; ++i) {
      EXPECT_EQ(steps_[i].is_owned.exchange(mine), !mine) << "two blocks share memory";
      if (mine) {
        EXPECT_GE(fence, steps_[i].free_after) << "no fence was passed that was set after it was freed";
      } else {
        steps_[i].free_after = fence + 1;
      }
    }
  }

 private:
  struct Step {
    std::atomic<bool> is_owned{false};
    std::atomic<std::uint64_t> free_after{0};  // the first fence that is set after it was freed
  };
  class Numbered final : public Fence {
   public:
    Numbered(DeviceMap& device, std::uint64_t number) : device_(device), number_(number) {}
    Result<bool> passed() override {
      if (++asked_ < 3) return false;
      std::uint64_t before = device_.passed_;
      while (before < number_ && !device_.passed_.compare_exchange_weak(before, number_)) {
      }
      return true;
    }

   private:
    DeviceMap& device_;
    const std::uint64_t number_;
    int asked_ = 0;
  };
  std::vector<Step> steps_;
  std::atomic<std::uint64_t> set_{0};
  std::atomic<std::uint64_t> passed_{0};
};

// Allocates and drops blocks; what the cap has no room for is left out.
std::uint64_t hammer(Slabs& slabs, DeviceMap& device, std::uint64_t seed, int rounds) {
  std::mt19937_64 random(seed);
  std::vector<BlockPtr> blocks;
  std::uint64_t made = 0;
  const auto drop = [&](std::size_t index) {
    device.own(*blocks[index], false);
    blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(index));
  };
  for (int i = 0; i < rounds; ++i) {
    const std::uint64_t bytes = 1 + random() % (std::uint64_t{1} << (random() % 20));
    Result<BlockPtr> block = slabs.allocate(bytes, [&] { return device.set_fence(); }, Deadline::never());
    if (block.is_ok()) {
      device.own(**block, true);
      blocks.push_back(*std::move(block));
      ++made;
    } else if (block.status().code() != Code::kOutOfMemory) {
      EXPECT_EQ(block.status().code(), Code::kClosed);
    }
    while (!blocks.empty() && (blocks.size() > 12 || random() % 3 == 0)) drop(random() % blocks.size());
  }
  while (!blocks.empty()) drop(0);
  return made;
}

TEST_F(SlabsTest, many_threads_share_them) {
  constexpr std::uint64_t kCap = 4 * kSlab;  // tight, so that fences are needed
  const auto slabs = make(kSlab, kCap);
  DeviceMap device(kCap);
  std::atomic<std::uint64_t> made{0};
  std::vector<std::thread> threads;
  for (std::uint64_t seed = 0; seed < 4; ++seed) threads.emplace_back([&, seed] { made += hammer(*slabs, device, seed, 2000); });
  for (std::thread& thread : threads) thread.join();
  const ArenaStats stats = slabs->stats();
  EXPECT_EQ(stats.live_blocks, 0u);
  EXPECT_EQ(stats.used_bytes, 0u);
  EXPECT_EQ(stats.allocations, made);
  EXPECT_GT(made, 4000u);
  EXPECT_EQ(bytes_given_back(), 0u);
  const std::uint64_t mapped = stats.mapped_bytes;
  slabs->close();
  EXPECT_EQ(bytes_given_back(), mapped);
}

TEST_F(SlabsTest, threads_go_on_while_they_are_closed) {
  constexpr std::uint64_t kCap = 8 * kSlab;
  for (std::uint64_t round = 0; round < 20; ++round) {
    auto slabs = make(kSlab, kCap);
    DeviceMap device(kCap);
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 3; ++i) threads.emplace_back([&, i] { hammer(*slabs, device, 10 * round + i, 200); });
    EXPECT_TRUE(eventually([&] { return slabs->stats().allocations > 20 * round; }));
    slabs->close();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(slabs->stats().segments, 0u);
    slabs.reset();
    std::uint64_t taken = 0;
    for (const std::uint64_t bytes : log.taken) taken += bytes;
    EXPECT_EQ(bytes_given_back(), taken);
  }
}

}  // namespace
}  // namespace ray_hixl::device
