#include "memory/copy_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "support/child.h"
#include "support/event.h"

namespace ray_hixl::memory {
namespace {

using test::Event;

class Work : public CopyWork {
 public:
  explicit Work(std::size_t parts, std::function<void(std::size_t)> body = nullptr) : body_(std::move(body)), runs_(parts) {}
  [[nodiscard]] std::size_t parts() const override { return runs_.size(); }
  bool run(std::size_t part) override {
    EXPECT_EQ(finishes, 0);
    if (body_) body_(part);
    ++runs_.at(part);
    return true;
  }
  void finished() override {
    for (const std::atomic<int>& runs : runs_) EXPECT_EQ(runs, 1);
    ++finishes;
    finished_by = std::this_thread::get_id();
    done.set();
  }

  std::atomic<int> finishes{0};
  std::thread::id finished_by;  // of finished(); read after done
  Event done;

 private:
  const std::function<void(std::size_t)> body_;
  std::vector<std::atomic<int>> runs_;
};

std::string thread_name() {
  char name[16] = {};
  ::pthread_getname_np(::pthread_self(), name, sizeof(name));
  return name;
}

int pool_threads_of_this_process() {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream(task.path() / "comm") >> name;
    if (name.starts_with("hixl-copy-")) ++count;
  }
  return count;
}

// Of one part at a time, of which the third says that nothing is left to do.
class Stopped final : public CopyWork {
 public:
  [[nodiscard]] std::size_t parts() const override { return 1000; }
  bool run(std::size_t) override { return ++runs < 3; }
  void finished() override { done.set(); }
  std::atomic<int> runs{0};
  Event done;
};

TEST(CopyPool, does_not_run_the_rest_of_a_work_that_is_over) {
  CopyPool pool(1);
  const auto held = std::make_shared<Work>(1);
  const auto work = std::make_shared<Stopped>();
  ASSERT_TRUE(pool.submit(work).is_ok());
  ASSERT_TRUE(work->done.wait());
  EXPECT_EQ(work->runs, 3);
  ASSERT_TRUE(pool.submit(held).is_ok());
  ASSERT_TRUE(held->done.wait());
  EXPECT_EQ(work->runs, 3);
}

TEST(CopyPool, every_part_runs_once_and_then_the_work_is_finished) {
  CopyPool pool(3);
  std::vector<std::shared_ptr<Work>> works;
  for (const std::size_t parts : {1U, 2U, 3U, 17U, 1000U}) {
    works.push_back(std::make_shared<Work>(parts));
    EXPECT_TRUE(pool.submit(works.back()).is_ok());
  }
  for (const auto& work : works) EXPECT_TRUE(work->done.wait());
  pool.stop();
  for (const auto& work : works) EXPECT_EQ(work->finishes, 1);
}

TEST(CopyPool, threads_start_with_the_first_work_and_end_with_stop) {
  CopyPool pool(2);
  EXPECT_EQ(pool.threads(), 2U);
  EXPECT_EQ(pool_threads_of_this_process(), 0);
  std::string name;
  const auto work = std::make_shared<Work>(1, [&](std::size_t) { name = thread_name(); });
  EXPECT_TRUE(pool.submit(work).is_ok());
  ASSERT_TRUE(work->done.wait());
  EXPECT_TRUE(name == "hixl-copy-0" || name == "hixl-copy-1") << name;
  EXPECT_EQ(pool_threads_of_this_process(), 2);
  pool.stop();
  EXPECT_EQ(pool_threads_of_this_process(), 0);
  pool.stop();
}

TEST(CopyPool, by_default_there_is_a_thread_per_core_and_at_most_four) {
  const std::uint32_t threads = CopyPool(0).threads();
  EXPECT_GE(threads, 1U);
  EXPECT_LE(threads, 4U);
}

TEST(CopyPool, parts_run_at_once) {
  CopyPool pool(2);
  Event both[2];
  const auto work = std::make_shared<Work>(2, [&](std::size_t part) {
    both[part].set();
    EXPECT_TRUE(both[1 - part].wait()) << "each needs the other to run";
  });
  EXPECT_TRUE(pool.submit(work).is_ok());
  EXPECT_TRUE(work->done.wait());
}

TEST(CopyPool, a_small_work_does_not_wait_for_a_large_one) {
  CopyPool pool(1);
  Event started;
  Event go_on;
  std::size_t large_parts_run = 0;
  std::size_t at_small_end = 0;
  const auto large = std::make_shared<Work>(100, [&](std::size_t part) {
    if (part == 0) {
      started.set();
      EXPECT_TRUE(go_on.wait());
    }
    ++large_parts_run;
  });
  const auto small = std::make_shared<Work>(3, [&](std::size_t) { at_small_end = large_parts_run; });
  EXPECT_TRUE(pool.submit(large).is_ok());
  ASSERT_TRUE(started.wait());
  EXPECT_TRUE(pool.submit(small).is_ok());
  go_on.set();
  EXPECT_TRUE(large->done.wait());
  EXPECT_EQ(small->finishes, 1);
  EXPECT_LE(at_small_end, 4U) << "the works take turns";
}

TEST(CopyPool, parts_of_one_work_start_in_order) {
  CopyPool pool(1);
  std::vector<std::size_t> order;
  const auto work = std::make_shared<Work>(5, [&](std::size_t part) { order.push_back(part); });
  EXPECT_TRUE(pool.submit(work).is_ok());
  ASSERT_TRUE(work->done.wait());
  EXPECT_EQ(order, (std::vector<std::size_t>{0, 1, 2, 3, 4}));
}

TEST(CopyPool, work_without_parts_is_finished_in_the_caller) {
  CopyPool pool(1);
  const auto work = std::make_shared<Work>(0);
  EXPECT_TRUE(pool.submit(work).is_ok());
  EXPECT_EQ(work->finishes, 1);
  EXPECT_EQ(work->finished_by, std::this_thread::get_id());
}

TEST(CopyPool, stop_finishes_what_was_submitted) {
  CopyPool pool(2);
  Event started;
  Event go_on;
  const auto first = std::make_shared<Work>(1, [&](std::size_t) {
    started.set();
    EXPECT_TRUE(go_on.wait());
  });
  const auto second = std::make_shared<Work>(50);
  EXPECT_TRUE(pool.submit(first).is_ok());
  ASSERT_TRUE(started.wait());
  EXPECT_TRUE(pool.submit(second).is_ok());
  std::thread stopper([&] { pool.stop(); });
  go_on.set();
  stopper.join();
  EXPECT_EQ(first->finishes, 1);
  EXPECT_EQ(second->finishes, 1);
}

TEST(CopyPool, after_stop_no_work_is_taken) {
  CopyPool pool(1);
  pool.stop();
  for (const std::size_t parts : {0U, 1U}) {
    const auto work = std::make_shared<Work>(parts);
    EXPECT_EQ(pool.submit(work).code(), Code::kClosed);
    EXPECT_EQ(work->finishes, 0);
    EXPECT_EQ(work.use_count(), 1);
  }
}

TEST(CopyPool, work_may_submit_more_work_when_it_finishes) {
  struct Chain : Work {
    Chain(CopyPool& the_pool, int the_rest, Event& the_end) : Work(2), pool(the_pool), rest(the_rest), end(the_end) {}
    void finished() override {
      if (rest == 0) {
        end.set();
      } else {
        EXPECT_TRUE(pool.submit(std::make_shared<Chain>(pool, rest - 1, end)).is_ok());
      }
    }
    CopyPool& pool;
    int rest;
    Event& end;
  };
  CopyPool pool(2);
  Event end;
  EXPECT_TRUE(pool.submit(std::make_shared<Chain>(pool, 100, end)).is_ok());
  EXPECT_TRUE(end.wait());
}

// Its end is told with the thread it happened on and the one that finished it.
struct Dying : Work {
  explicit Dying(std::function<void(bool)> the_tell) : Work(4), tell(std::move(the_tell)) {}
  ~Dying() override { tell(finishes == 1 && finished_by == std::this_thread::get_id()); }
  const std::function<void(bool)> tell;
};

TEST(CopyPool, the_pool_lets_go_of_a_work_on_the_thread_that_finished_it) {
  CopyPool pool(4);
  for (int i = 0; i < 300; ++i) {
    Event gone;
    std::atomic<bool> there{false};
    const Status taken = pool.submit(std::make_shared<Dying>([&](bool same) {
      there = same;
      gone.set();
    }));
    EXPECT_TRUE(taken.is_ok());
    ASSERT_TRUE(gone.wait());
    ASSERT_TRUE(there);
  }
}

TEST(CopyPool, many_threads_submit) {
  CopyPool pool(4);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < 200; ++i) {
        const auto work = std::make_shared<Work>(i % 7);
        EXPECT_TRUE(pool.submit(work).is_ok());
        ASSERT_TRUE(work->done.wait());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(CopyPool, a_forked_child_is_refused_and_does_not_hang) {
  auto pool = std::make_unique<CopyPool>(2);
  const auto work = std::make_shared<Work>(1);
  EXPECT_TRUE(pool->submit(work).is_ok());
  ASSERT_TRUE(work->done.wait());
  EXPECT_TRUE(test::in_child([&] {
    const bool taken = pool->submit(std::make_shared<Work>(1)).is_ok();
    pool->stop();
    pool.reset();
    return !taken;
  }));
}

}  // namespace
}  // namespace ray_hixl::memory
