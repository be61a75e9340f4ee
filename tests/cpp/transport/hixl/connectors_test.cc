#include "transport/hixl/driver/connectors.h"

#include <atomic>
#include <memory>
#include <mutex>

#include "support/engines.h"
#include "support/event.h"
#include "support/eventually.h"
#include "support/forbidden_calls.h"
#include "support/tasks.h"

namespace ray_hixl::test {
namespace {

using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;
using transport::hixl::Connectors;

constexpr int kMost = 64;  // threads

class ConnectorsTest : public testing::Test {
 protected:
  // What errands use lives until they have ended.
  ~ConnectorsTest() override { EXPECT_TRUE(connectors.stop(Deadline::in(10s))); }
  void run_and_wait() {
    const auto done = std::make_shared<Event>();
    (void)connectors.run([done] { done->set(); });
    ASSERT_TRUE(done->wait());
  }

  std::atomic<int> prepared{0};
  std::atomic<int> begun{0};
  std::atomic<int> finished{0};
  std::mutex mutex;
  Event blocked;
  Connectors connectors{"test-conn", [this] { ++prepared; }};
};

TEST_F(ConnectorsTest, start_no_thread_before_there_is_something_to_do) {
  EXPECT_THAT(threads_named("test-conn"), IsEmpty());
  run_and_wait();
  EXPECT_THAT(threads_named("test-conn"), SizeIs(1));
}

TEST_F(ConnectorsTest, prepare_every_thread_first) {
  for (int i = 0; i < 4; ++i) {
    (void)connectors.run([&] {
      EXPECT_GT(prepared, 0);
      if (++begun == 4) blocked.set();
      EXPECT_TRUE(blocked.wait()) << "four errands run side by side";
    });
  }
  EXPECT_TRUE(eventually([&] { return begun == 4; }));
  EXPECT_EQ(prepared, 4);
}

TEST_F(ConnectorsTest, do_not_keep_an_errand_waiting_for_others_that_block) {
  for (int i = 0; i < 3; ++i) (void)connectors.run([&] { EXPECT_TRUE(blocked.wait()); });
  for (int i = 0; i < 50; ++i) run_and_wait();
  EXPECT_THAT(threads_named("test-conn"), SizeIs(testing::Lt(30)))
      << "one is made only where the last has ended its errand, but does not wait yet";
  blocked.set();
}

TEST_F(ConnectorsTest, use_64_threads_at_most) {
  std::vector<int> order;
  for (int i = 0; i < kMost; ++i) {
    (void)connectors.run([&] {
      ++begun;
      EXPECT_TRUE(blocked.wait());
    });
  }
  for (int i = 0; i < 3; ++i) {
    (void)connectors.run([&, i] {
      const std::lock_guard lock(mutex);
      order.push_back(i);
    });
  }
  const auto ordered = [&] {
    const std::lock_guard lock(mutex);
    return order;
  };
  EXPECT_TRUE(eventually([&] { return begun == kMost; }));
  EXPECT_THAT(threads_named("test-conn"), SizeIs(kMost));
  EXPECT_THAT(ordered(), IsEmpty());
  blocked.set();
  EXPECT_TRUE(eventually([&] { return ordered().size() == 3; }));
  EXPECT_THAT(ordered(), UnorderedElementsAre(0, 1, 2));
  EXPECT_TRUE(connectors.stop(Deadline::in(10s)));
}

TEST_F(ConnectorsTest, reuse_their_threads) {
  for (int i = 0; i < 50; ++i) {
    const std::uint64_t before = sleeps_of("test-conn");
    run_and_wait();
    (void)eventually([&] { return sleeps_of("test-conn") > before; }, 50ms);  // it may have the next one before it ever sleeps
  }
  EXPECT_LT(prepared, 4);
}

TEST_F(ConnectorsTest, drop_what_has_not_begun_and_wait_for_the_rest) {
  std::atomic<bool> dropped = false;
  for (int i = 0; i < kMost; ++i) {
    (void)connectors.run([&] {
      ++begun;
      EXPECT_TRUE(blocked.wait());
      ++finished;
    });
  }
  ASSERT_TRUE(eventually([&] { return begun == kMost; }));
  const std::shared_ptr<const void> watched(&dropped, [&](const void*) { dropped = true; });
  (void)connectors.run([kept = std::shared_ptr<const void>(watched)] { ADD_FAILURE() << "it had not begun"; });
  EXPECT_FALSE(connectors.stop(Deadline::in(10ms))) << "all its errands hang";
  EXPECT_EQ(watched.use_count(), 1) << "what waited is dropped";
  blocked.set();
  EXPECT_TRUE(connectors.stop(Deadline::in(10s)));
  EXPECT_EQ(finished, kMost);
  (void)connectors.run([] { ADD_FAILURE() << "it is stopped"; });
}

TEST_F(ConnectorsTest, say_where_there_is_no_thread_at_all) {
  without_threads([&] { EXPECT_THAT(connectors.run([] { ADD_FAILURE() << "nobody can run it"; }), FailsWith(Code::kOutOfMemory)); });
  run_and_wait();
}

TEST_F(ConnectorsTest, let_an_errand_wait_for_the_threads_that_are_there) {
  EXPECT_THAT(connectors.run([&] {
    ++begun;
    EXPECT_TRUE(blocked.wait());
  }),
              IsOk());
  EXPECT_TRUE(eventually([&] { return begun == 1; }));
  without_threads([&] { EXPECT_THAT(connectors.run([&] { ++finished; }), IsOk()); });
  blocked.set();
  EXPECT_TRUE(eventually([&] { return finished == 1; }));
}

TEST_F(ConnectorsTest, end_threads_that_have_nothing_to_do_but_the_last) {
  Connectors shortly{"short-conn", [] {}, 20ms};
  for (int round = 1; round <= 3; ++round) {
    Event all_begun;
    for (int i = 0; i < 6; ++i) {
      (void)shortly.run([&] {
        if (++begun == 6 * round) all_begun.set();
        EXPECT_TRUE(all_begun.wait());
        ++finished;
      });
    }
    EXPECT_TRUE(eventually([&] { return finished == 6 * round && threads_named("short-conn").size() == 1; }));
  }
  without_threads([&] { EXPECT_THAT(shortly.run([&] { ++begun; }), IsOk()) << "the last one stays"; });
  EXPECT_TRUE(eventually([&] { return begun == 19; }));
  EXPECT_TRUE(shortly.stop(Deadline::in(10s)));
  EXPECT_THAT(threads_named("short-conn"), IsEmpty());
}

TEST_F(ConnectorsTest, stop_without_ever_having_run) { EXPECT_TRUE(connectors.stop(Deadline::in(0s))); }

}  // namespace
}  // namespace ray_hixl::test
