#include "memory/slots.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <limits>
#include <optional>
#include <set>
#include <thread>

#include "support/child.h"
#include "support/event.h"
#include "support/forbidden_calls.h"

namespace ray_hixl::memory {
namespace {

using test::Event;

constexpr off_t kTableBytes = (off_t{SlotTable::kCapacity} + 1) * 8;  // and whether the engine has ended

SlotContent content_of(std::vector<std::uint64_t> lengths) {
  static std::byte somewhere{};
  SlotContent content;
  for (const std::uint64_t length : lengths) content.ranges.push_back({&somewhere, length});
  return content;
}

class Slots : public ::testing::Test {
 protected:
  Slots() : table(*SlotTable::create(reaper)), view(*GenerationView::map(table->generations())) {}

  Handle publish(std::vector<std::uint64_t> lengths = {8}) { return *table->publish(content_of(std::move(lengths))); }
  Code pin_code(const Handle& handle) const { return table->pin(handle).status().code(); }

  Reaper reaper;
  std::unique_ptr<SlotTable> table;
  std::shared_ptr<const GenerationView> view;
};

TEST_F(Slots, a_published_slot_is_live_and_pins_its_content) {
  SlotContent content = content_of({8, 0, 32});
  content.remote_write = true;
  const Result<Handle> handle = table->publish(std::move(content));
  ASSERT_TRUE(handle.is_ok());
  EXPECT_EQ(handle->generation % 2, 1U);
  EXPECT_TRUE(table->live(*handle));
  EXPECT_TRUE(view->live(*handle));
  EXPECT_EQ(table->live_slots(), 1U);
  const auto pinned = table->pin(*handle);
  ASSERT_TRUE(pinned.is_ok());
  EXPECT_EQ((*pinned)->ranges.size(), 3U);
  EXPECT_EQ((*pinned)->length, 40U);
  EXPECT_TRUE((*pinned)->remote_write);
}

TEST_F(Slots, a_slot_may_hold_nothing) {
  const Handle handle = publish({});
  EXPECT_EQ((*table->pin(handle))->length, 0U);
}

TEST_F(Slots, a_retired_handle_is_stale_for_the_owner_and_for_peers) {
  const Handle handle = publish();
  EXPECT_TRUE(table->retire(handle));
  EXPECT_FALSE(table->live(handle));
  EXPECT_FALSE(view->live(handle));
  EXPECT_EQ(pin_code(handle), Code::kInvalidRegion);
  EXPECT_EQ(table->live_slots(), 0U);
  EXPECT_FALSE(table->retire(handle)) << "a second time";
}

TEST_F(Slots, a_reused_slot_never_makes_an_old_handle_good_again) {
  const Handle first = publish();
  std::set<std::uint64_t> generations{first.generation};
  Handle last = first;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(table->retire(last));
    last = publish();
    ASSERT_EQ(last.slot, first.slot) << "the slot freed last is used next";
    EXPECT_TRUE(generations.insert(last.generation).second);
    EXPECT_FALSE(view->live(first));
    EXPECT_EQ(pin_code(first), Code::kInvalidRegion);
    EXPECT_TRUE(view->live(last));
  }
}

TEST_F(Slots, a_stale_handle_cannot_retire_the_slots_next_content) {
  const Handle old = publish();
  ASSERT_TRUE(table->retire(old));
  const Handle current = publish();
  EXPECT_FALSE(table->retire(old));
  EXPECT_TRUE(table->live(current));
}

TEST_F(Slots, a_wrong_key_neither_pins_nor_retires) {
  const Handle handle = publish();
  Handle guessed = handle;
  guessed.key ^= 1;
  const auto pinned = table->pin(guessed);
  ASSERT_FALSE(pinned.is_ok());
  EXPECT_EQ(pinned.status().code(), Code::kInvalidRegion);
  EXPECT_NE(pinned.status().message().find("key"), std::string::npos);
  EXPECT_EQ(pinned.status().message().find(std::to_string(handle.key)), std::string::npos) << "a key is a secret";
  EXPECT_FALSE(table->retire(guessed));
  EXPECT_TRUE(table->live(handle));
}

TEST_F(Slots, keys_differ) {
  std::set<std::uint64_t> keys;
  for (int i = 0; i < 100; ++i) keys.insert(publish().key);
  EXPECT_EQ(keys.size(), 100U);
}

TEST_F(Slots, unknown_slots_and_impossible_generations_are_refused) {
  const Handle good = publish();
  for (const Handle bad : {Handle{good.slot + 1, 1, good.key}, Handle{SlotTable::kCapacity, 1, 0},
                           Handle{std::numeric_limits<std::uint32_t>::max(), 1, 0}, Handle{good.slot, 0, good.key},
                           Handle{good.slot, good.generation + 1, good.key}, Handle{good.slot, good.generation + 2, good.key}}) {
    EXPECT_FALSE(table->live(bad));
    EXPECT_FALSE(view->live(bad));
    EXPECT_EQ(pin_code(bad), Code::kInvalidRegion);
    EXPECT_FALSE(table->retire(bad));
  }
}

TEST_F(Slots, ranges_whose_lengths_overflow_are_refused) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ((*table->pin(publish({kMost - 1, 1})))->length, kMost);
  EXPECT_EQ(table->publish(content_of({kMost, 1})).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(table->live_slots(), 1U);
}

TEST_F(Slots, the_generation_is_retired_before_the_owner_is_dropped) {
  Event dropped;
  std::atomic<bool> live_at_drop{true};
  std::atomic<bool> on_reaper{false};
  Handle handle;
  SlotContent content = content_of({8});
  content.owner = std::shared_ptr<const void>(&dropped, [&](const void*) {
    live_at_drop = view->live(handle);
    on_reaper = reaper.on_reaper();
    dropped.set();
  });
  handle = *table->publish(std::move(content));
  ASSERT_TRUE(table->retire(handle));
  ASSERT_TRUE(dropped.wait());
  EXPECT_FALSE(live_at_drop);
  EXPECT_TRUE(on_reaper);
}

TEST_F(Slots, a_pin_keeps_the_owner_until_it_is_dropped_on_the_reaper) {
  Event dropped;
  std::atomic<bool> pinned{true};
  std::atomic<bool> pinned_at_drop{true};
  std::atomic<bool> on_reaper{false};
  SlotContent content = content_of({8});
  content.owner = std::shared_ptr<const void>(&dropped, [&](const void*) {
    pinned_at_drop = pinned.load();
    on_reaper = reaper.on_reaper();
    dropped.set();
  });
  const Handle handle = *table->publish(std::move(content));
  std::shared_ptr<const SlotContent> pin = *table->pin(handle);
  ASSERT_TRUE(table->retire(handle));
  EXPECT_FALSE(table->live(handle)) << "a pin does not keep the slot live";
  EXPECT_EQ(pin->length, 8U);
  // The reaper had time to drop it, had it been given: what is handed to it later has ended.
  Event reaped;
  reaper.drop(std::shared_ptr<const void>(&reaped, [&](const void*) { reaped.set(); }));
  ASSERT_TRUE(reaped.wait());
  std::thread([&, last = std::move(pin)]() mutable {
    pinned = false;
    last.reset();
  }).join();
  ASSERT_TRUE(dropped.wait());
  EXPECT_FALSE(pinned_at_drop);
  EXPECT_TRUE(on_reaper);
}

TEST_F(Slots, the_owner_of_refused_content_is_dropped_on_the_reaper) {
  Event dropped;
  std::atomic<bool> on_reaper{false};
  SlotContent content = content_of({std::numeric_limits<std::uint64_t>::max(), 1});
  content.owner = std::shared_ptr<const void>(&dropped, [&](const void*) {
    on_reaper = reaper.on_reaper();
    dropped.set();
  });
  EXPECT_FALSE(table->publish(std::move(content)).is_ok());
  ASSERT_TRUE(dropped.wait());
  EXPECT_TRUE(on_reaper);
}

TEST_F(Slots, a_table_that_ends_retires_everything_says_so_and_takes_nothing_more) {
  std::vector<Handle> handles;
  for (int i = 0; i < 10; ++i) handles.push_back(publish());
  table->retire(handles[3]);
  EXPECT_FALSE(view->ended());
  table->end();
  for (const Handle& handle : handles) EXPECT_FALSE(view->live(handle));
  EXPECT_TRUE(view->ended());
  EXPECT_EQ(table->live_slots(), 0U);
  EXPECT_EQ(table->publish({}).status().code(), Code::kClosed);
}

TEST_F(Slots, a_table_that_goes_has_ended) {
  const Handle handle = publish();
  table.reset();
  EXPECT_FALSE(view->live(handle));
  EXPECT_TRUE(view->ended());
}

// Who sees a slot retired by the end sees the end.
TEST_F(Slots, no_slot_is_retired_by_the_end_before_the_end_is_seen) {
  for (int i = 0; i < 200; ++i) {
    table = *SlotTable::create(reaper);
    view = *GenerationView::map(table->generations());
    const Handle handle = publish();
    std::thread owner([this] { table->end(); });
    while (view->live(handle)) {
    }
    EXPECT_TRUE(view->ended());
    owner.join();
  }
}

TEST_F(Slots, every_slot_can_be_live_and_one_more_is_refused) {
  constexpr std::uint32_t kLimit = 100;
  const auto small = std::move(SlotTable::create(reaper, kLimit)).value();
  std::vector<Handle> handles;
  for (std::uint32_t i = 0; i < kLimit; ++i) {
    Result<Handle> handle = small->publish({});
    ASSERT_TRUE(handle.is_ok());
    handles.push_back(*handle);
  }
  EXPECT_EQ(small->live_slots(), kLimit);
  const Result<Handle> refused = small->publish({});
  ASSERT_FALSE(refused.is_ok());
  EXPECT_EQ(refused.status().code(), Code::kOutOfMemory);
  for (const Handle& handle : handles) EXPECT_TRUE(small->live(handle));
  EXPECT_TRUE(small->retire(handles[42]));
  EXPECT_TRUE(small->publish({}).is_ok());
}

TEST_F(Slots, peers_cannot_write_or_resize_the_generations) {
  const int fd = table->generations().get();
  EXPECT_EQ(::mmap(nullptr, kTableBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_NE(::ftruncate(fd, 4096), 0);
  EXPECT_NE(::ftruncate(fd, kTableBytes * 2), 0);
  const std::uint64_t forged = 1;
  EXPECT_LT(::pwrite(fd, &forged, sizeof(forged), 0), 0);
  EXPECT_NE(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0) << "nor seal it against its owner";
}

TEST_F(Slots, only_used_slots_take_memory) {
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(table->retire(publish()));
  struct stat info {};
  ASSERT_EQ(::fstat(table->generations().get(), &info), 0);
  EXPECT_LE(info.st_blocks * 512, kTableBytes / 4);
}

TEST(GenerationView, anything_but_a_sealed_table_is_refused) {
  const auto code = [](const Fd& fd) { return GenerationView::map(fd).status().code(); };
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
  const auto memfd = [](off_t size, int seals) {
    Fd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(::ftruncate(fd.get(), size), 0);
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    return fd;
  };
  EXPECT_EQ(code(memfd(kTableBytes, kSeals)), Code::kOk);
  EXPECT_EQ(code(memfd(kTableBytes, F_SEAL_SHRINK | F_SEAL_GROW)), Code::kInvalidArgument);
  EXPECT_EQ(code(memfd(kTableBytes, F_SEAL_GROW | F_SEAL_FUTURE_WRITE)), Code::kInvalidArgument);
  EXPECT_EQ(code(memfd(kTableBytes - 4096, kSeals)), Code::kInvalidArgument);
  EXPECT_EQ(code(memfd(0, kSeals)), Code::kInvalidArgument);
  EXPECT_EQ(code(Fd(::open("/dev/null", O_RDONLY | O_CLOEXEC))), Code::kInvalidArgument);
  EXPECT_EQ(code(Fd()), Code::kInvalidArgument);
}

TEST_F(Slots, many_threads_publish_pin_and_retire) {
  constexpr int kThreads = 4;
  constexpr std::uint64_t kRounds = 1000;
  std::atomic<std::uint64_t> dropped{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t i = 0; i < kRounds; ++i) {
        const std::uint64_t length = i * kThreads + static_cast<std::uint64_t>(t);
        SlotContent content = content_of({length});
        content.owner = std::shared_ptr<const void>(&dropped, [&](const void*) { ++dropped; });
        const Handle handle = *table->publish(std::move(content));
        const auto pin = table->pin(handle);
        ASSERT_TRUE(pin.is_ok());
        EXPECT_EQ((*pin)->length, length);
        EXPECT_TRUE(view->live(handle));
        EXPECT_TRUE(table->retire(handle));
        EXPECT_FALSE(view->live(handle));
        EXPECT_EQ(pin_code(handle), Code::kInvalidRegion);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(table->live_slots(), 0U);
  reaper.stop();
  EXPECT_EQ(dropped, kThreads * kRounds);
}

TEST_F(Slots, one_of_two_threads_retires_a_handle) {
  for (int i = 0; i < 200; ++i) {
    const Handle handle = publish();
    std::atomic<int> retired{0};
    std::thread other([&] { retired += table->retire(handle) ? 1 : 0; });
    retired += table->retire(handle) ? 1 : 0;
    other.join();
    EXPECT_EQ(retired, 1);
  }
}

TEST_F(Slots, a_forked_child_cannot_retire_what_its_parent_published) {
  const Handle handle = publish();
  EXPECT_TRUE(test::in_child([&] {
    const bool retired = table->retire(handle);
    const Code published = table->publish({}).status().code();
    table->end();
    table.reset();
    return !retired && published == Code::kClosed;
  }));
  EXPECT_TRUE(table->live(handle));
  EXPECT_TRUE(view->live(handle));
  EXPECT_FALSE(view->ended());
}

TEST(SlotTableAlone, needs_no_memfds) {
  Reaper reaper;
  test::without_memfds([&] {
    const auto made = SlotTable::create(reaper);
    ASSERT_TRUE(made.is_ok()) << made.status().to_string();
    SlotTable& table = **made;
    EXPECT_FALSE(table.generations());
    const Handle handle = table.publish({}).value();
    EXPECT_TRUE(table.live(handle));
    EXPECT_TRUE(table.retire(handle));
    EXPECT_FALSE(table.live(handle));
  });
}

}  // namespace
}  // namespace ray_hixl::memory
