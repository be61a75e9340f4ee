#include "memory/reaper.h"

#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "base/thread.h"
#include "support/child.h"
#include "support/event.h"

namespace ray_hixl::memory {
namespace {

using test::Event;

// An owner whose end is seen: where it happened, and that it did.
struct Owner {
  explicit Owner(Reaper& the_reaper) : reaper(the_reaper) {}
  std::shared_ptr<const void> make() {
    return {this, [this](const void*) {
              on_reaper = reaper.on_reaper();
              dropped.set();
            }};
  }
  Reaper& reaper;
  std::atomic<bool> on_reaper{false};
  Event dropped;
};

TEST(Reaper, an_owner_is_dropped_on_the_reaper_thread) {
  Reaper reaper;
  Owner owner(reaper);
  reaper.drop(owner.make());
  ASSERT_TRUE(owner.dropped.wait());
  EXPECT_TRUE(owner.on_reaper);
  EXPECT_FALSE(reaper.on_reaper());
}

TEST(Reaper, dropping_does_not_wait_for_the_destructor) {
  Reaper reaper;
  Event entered;
  Event go_on;
  Owner second(reaper);
  reaper.drop(std::shared_ptr<const void>(&go_on, [&](const void*) {
    entered.set();
    EXPECT_TRUE(go_on.wait());
  }));
  ASSERT_TRUE(entered.wait());
  reaper.drop(second.make());  // would never return if it waited
  go_on.set();
  EXPECT_TRUE(second.dropped.wait());
}

TEST(Reaper, an_adopted_owner_is_dropped_there_when_its_last_copy_dies) {
  Reaper reaper;
  Owner owner(reaper);
  std::shared_ptr<const void> first = reaper.adopt(owner.make());
  EXPECT_EQ(first.get(), &owner);
  std::shared_ptr<const void> second = first;
  first.reset();
  std::thread([last = std::move(second)]() mutable { last.reset(); }).join();
  ASSERT_TRUE(owner.dropped.wait());
  EXPECT_TRUE(owner.on_reaper);
}

TEST(Reaper, an_owner_without_an_address_is_still_an_owner) {
  Reaper reaper;
  Event dropped;
  std::shared_ptr<const void> adopted = reaper.adopt(std::shared_ptr<const void>(nullptr, [&](const void*) { dropped.set(); }));
  adopted.reset();
  EXPECT_TRUE(dropped.wait());
}

TEST(Reaper, no_owner_stays_none) {
  Reaper reaper;
  reaper.drop(nullptr);
  EXPECT_EQ(reaper.adopt(nullptr).use_count(), 0);
}

TEST(Reaper, an_owner_that_drops_another_one_ends_both) {
  Reaper reaper;
  Owner inner(reaper);
  reaper.drop(std::shared_ptr<const void>(&inner, [&, kept = reaper.adopt(inner.make())](const void*) mutable { kept.reset(); }));
  ASSERT_TRUE(inner.dropped.wait());
  EXPECT_TRUE(inner.on_reaper);
}

TEST(Reaper, stop_drops_what_waits) {
  Reaper reaper;
  std::atomic<int> dropped{0};
  for (int i = 0; i < 1000; ++i) {
    reaper.drop(std::shared_ptr<const void>(&dropped, [&](const void*) { ++dropped; }));
  }
  reaper.stop();
  EXPECT_EQ(dropped, 1000);
  reaper.stop();
}

TEST(Reaper, after_stop_an_owner_is_dropped_in_the_caller) {
  Reaper reaper;
  std::shared_ptr<const void> adopted;
  std::thread::id where;
  adopted = reaper.adopt(std::shared_ptr<const void>(&where, [&](const void*) { where = std::this_thread::get_id(); }));
  reaper.stop();
  adopted.reset();
  EXPECT_EQ(where, std::this_thread::get_id());
}

TEST(Reaper, an_adopted_owner_may_die_after_a_stopped_reaper) {
  std::optional<Reaper> reaper(std::in_place);
  bool dropped = false;
  std::shared_ptr<const void> adopted = reaper->adopt(std::shared_ptr<const void>(&dropped, [&](const void*) { dropped = true; }));
  reaper.reset();
  adopted.reset();
  EXPECT_TRUE(dropped);
}

TEST(Reaper, owners_dropped_by_many_threads_all_end) {
  std::atomic<int> dropped{0};
  {
    Reaper reaper;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 500; ++i) reaper.drop(std::shared_ptr<const void>(&dropped, [&](const void*) { ++dropped; }));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(dropped, 2000);
}

TEST(Reaper, a_forked_child_neither_drops_owners_nor_hangs) {
  auto reaper = std::make_unique<Reaper>();
  Owner warm_up(*reaper);
  reaper->drop(warm_up.make());  // starts the thread, which the child will not have
  ASSERT_TRUE(warm_up.dropped.wait());
  Reaper stopped;
  stopped.stop();
  Owner owner(*reaper);
  std::shared_ptr<const void> adopted = reaper->adopt(owner.make());
  EXPECT_TRUE(test::in_child([&] {
    std::atomic<bool> ended{false};
    for (Reaper* each : {reaper.get(), &stopped}) each->drop(std::shared_ptr<const void>(&ended, [&](const void*) { ended = true; }));
    adopted.reset();
    reaper.reset();
    return !ended;
  }));
  adopted.reset();
  EXPECT_TRUE(owner.dropped.wait());
}

TEST(Reaper, lets_go_of_what_dies_on_an_event_loop) {
  Reaper reaper;
  std::atomic<std::thread::id> dropped_by{};
  const auto make = [&] {
    return reaper.off_loop(std::shared_ptr<int>(new int(7), [&](const int* value) {
      dropped_by = std::this_thread::get_id();
      delete value;
    }));
  };
  EXPECT_EQ(*make(), 7);
  EXPECT_EQ(dropped_by.load(), std::this_thread::get_id()) << "this thread may take its time";
  dropped_by = std::thread::id();
  std::thread::id loop;
  std::thread([&] {
    become_event_loop();
    loop = std::this_thread::get_id();
    make().reset();
  }).join();
  reaper.stop();
  EXPECT_NE(dropped_by.load(), std::thread::id());
  EXPECT_NE(dropped_by.load(), loop);
}

}  // namespace
}  // namespace ray_hixl::memory
