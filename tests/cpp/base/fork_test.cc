#include "base/fork.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <thread>

#include "base/deadline.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/null_device.h"
#include "base/thread.h"
#include "support/child.h"
#include "support/event.h"
#include "support/sanitized.h"

namespace ray_hixl {
namespace {

// The descriptors that open_null() makes, and others like them.
std::set<int> open_nulls() {
  std::set<int> open;
  for (int fd = 0; fd < 1024; ++fd) {
    std::array<char, 16> path{};
    const std::string link = "/proc/self/fd/" + std::to_string(fd);
    if (::readlink(link.c_str(), path.data(), path.size() - 1) > 0 && std::string(path.data()) == "/dev/null") open.insert(fd);
  }
  return open;
}

// Threads of this process that fork now, and the most there ever were.
std::atomic<int> forking{0};
std::atomic<int> most_forking{0};
std::atomic<bool> waits_for_another{false};

void count_forking() {
  const int now = ++forking;
  if (now > most_forking) most_forking = now;
  const Deadline end = Deadline::in(std::chrono::milliseconds(200));
  while (waits_for_another && most_forking < 2 && !end.passed()) std::this_thread::yield();
}
const bool kCounted = on_fork(count_forking, [] { --forking; }, [] { forking = 0; });

TEST(Fork, of_two_threads_at_once_is_one_after_the_other) {
  most_forking = 0;
  waits_for_another = true;
  std::atomic<int> ready{0};
  std::atomic<int> clean_children{0};
  std::array<std::thread, 2> forkers;
  for (std::thread& forker : forkers) {
    forker = *start_thread("forker", [&] {
      for (++ready; ready < 2;) std::this_thread::yield();
      const pid_t child = ::fork();
      if (child == 0) ::_exit(forking);
      int status = -1;
      if (::waitpid(child, &status, 0) == child && status == 0) ++clean_children;
    });
  }
  for (std::thread& forker : forkers) forker.join();
  waits_for_another = false;
  EXPECT_EQ(most_forking, 1);
  EXPECT_EQ(forking, 0);
  EXPECT_EQ(clean_children, 2);
}

TEST(Fork, is_counted_before_and_after_and_makes_a_generation) {
  const std::uint64_t count = fork_count();
  const std::uint32_t generation = process_generation();
  EXPECT_TRUE(test::in_child([&] {
    return process_generation() == generation + 1 && fork_count() != count &&
           test::in_child([&] { return process_generation() == generation + 2; });
  }));
  EXPECT_EQ(fork_count(), count + 2);
  EXPECT_EQ(process_generation(), generation);
}

TEST(Fork, closes_the_parents_descriptors_in_the_child) {
  Fd fd = open_null();
  Fd given_away = open_null();
  const int number = fd.get();
  const int kept = given_away.release();  // not ours any more
  EXPECT_TRUE(test::in_child([&] { return !is_open(number) && is_open(kept); }));
  EXPECT_TRUE(is_open(number));
  ::close(kept);
}

TEST(Fork, leaves_who_took_a_descriptors_number_alone) {
  Fd fd = open_null();
  Fd moved_onto = open_null();
  EXPECT_TRUE(test::in_child([&] {
    const std::array<int, 2> others = {::open("/dev/null", O_RDONLY | O_CLOEXEC), ::open("/dev/null", O_RDONLY | O_CLOEXEC)};
    const Fd own = open_null();
    if (std::set<int>(others.begin(), others.end()) != std::set<int>{fd.get(), moved_onto.get()}) return false;
    fd.reset();
    moved_onto = Fd();
    return is_open(others[0]) && is_open(others[1]) && is_open(own.get());
  }));
  EXPECT_TRUE(fd);
}

TEST(Fork, never_meets_a_descriptor_that_nobody_knows_of) {
  const std::set<int> before = open_nulls();
  std::atomic<bool> stop{false};
  std::array<std::thread, 2> makers;
  for (std::thread& maker : makers) {
    maker = *start_thread("maker", [&] {
      while (!stop) {
        const Fd first = open_null();
        const Result<Fd> second = first.duplicate();
      }
    });
  }
  const int forks = test::unless_sanitized(100, 30);
  for (int i = 0; i < forks; ++i) {
    EXPECT_TRUE(test::in_child([&] {
      const Fd own = open_null();  // the lock is free, whatever the makers were at
      return own && test::in_child([&] { return open_nulls() == before; });
    }));
  }
  stop = true;
  for (std::thread& maker : makers) maker.join();
}

TEST(Fork, leaves_a_condition_that_others_wait_for) {
  Mutex mutex;
  auto condition = std::make_unique<Condition>();
  bool ready = false;
  test::Event waits;
  std::thread waiter = *start_thread("waiter", [&] {
    MutexLock lock(mutex);
    waits.set();
    while (!ready) condition->wait(lock);
  });
  EXPECT_TRUE(waits.wait());
  {
    const MutexLock lock(mutex);  // so it waits
  }
  EXPECT_TRUE(test::in_child([&] {
    condition.reset();
    return true;
  }));
  {
    const MutexLock lock(mutex);
    ready = true;
    condition->notify_all();
  }
  waiter.join();
}

TEST(Fork, leaves_the_log_usable_in_the_child) {
  set_log_sink([](LogLevel, std::string_view) {});
  std::atomic<bool> stop{false};
  std::thread setter = *start_thread("setter", [&] {
    while (!stop) set_log_sink([](LogLevel, std::string_view) {});
  });
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(test::in_child([] {
      log(LogLevel::kError, "said by a child");  // allocates nothing, which a sanitizer's allocator could not do here
      return true;
    }));
  }
  stop = true;
  setter.join();
  set_log_sink(nullptr);
}

}  // namespace
}  // namespace ray_hixl
