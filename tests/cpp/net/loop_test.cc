#include "net/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <ctime>
#include <functional>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "support/child.h"
#include "support/event.h"
#include "support/eventually.h"
#include "support/on_loop.h"

namespace ray_hixl::net {
namespace {

using namespace std::chrono_literals;
using test::Event;
using test::new_loop;
using test::on_loop;
using testing::ElementsAre;

Fd new_event() { return Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

void signal(const Fd& fd) {
  const std::uint64_t one = 1;
  ASSERT_EQ(::write(fd.get(), &one, sizeof(one)), 8);
}

void take(int fd) {
  std::uint64_t count = 0;
  ASSERT_EQ(::read(fd, &count, sizeof(count)), 8);
}

TEST(Loop, runs_tasks_in_order_on_its_own_thread) {
  const auto loop = new_loop();
  std::vector<int> order;
  Event done;
  EXPECT_FALSE(loop->on_loop());
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(loop->post([&, i] { order.push_back(loop->on_loop() ? i : -1); }));
  loop->post([&] { done.set(); });
  ASSERT_TRUE(done.wait());
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

TEST(Loop, takes_tasks_from_many_threads_and_from_tasks) {
  const auto loop = new_loop();
  std::atomic<int> ran{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i) loop->post([&] { loop->post([&] { ++ran; }); });
    });
  }
  for (std::thread& thread : threads) thread.join();
  loop->stop();
  EXPECT_EQ(ran, 2000);
}

TEST(Loop, drops_tasks_once_it_was_stopped) {
  const auto loop = new_loop();
  loop->stop();
  loop->stop();
  const auto held = std::make_shared<int>(0);
  EXPECT_FALSE(loop->post([held] { FAIL(); }));
  EXPECT_EQ(held.use_count(), 1);
}

// The system gives the number of a thread that has ended to another one: nobody is on a loop that has none.
TEST(Loop, that_has_ended_has_no_thread) {
  const auto loop = new_loop();
  std::thread::id ended;
  Event known;
  loop->post([&] {
    ended = std::this_thread::get_id();
    known.set();
  });
  ASSERT_TRUE(known.wait());
  loop->stop();
  bool met = false;
  for (int i = 0; i < 1000 && !met; ++i) {
    std::thread([&] {
      met = std::this_thread::get_id() == ended;
      EXPECT_FALSE(loop->on_loop());
      loop->stop();
    }).join();
  }
  EXPECT_TRUE(met) << "no other thread got that number";
}

TEST(Loop, ends_what_it_owns_on_its_own_thread) {
  struct Owned {
    Loop& loop;
    std::atomic<int>& ended_on_loop;
    ~Owned() { ended_on_loop += loop.on_loop() ? 1 : 100; }
  };
  std::atomic<int> ended_on_loop{0};
  const Fd fd = new_event();
  const auto loop = new_loop();
  on_loop(*loop, [&] {
    const auto by_timer = std::make_shared<Owned>(*loop, ended_on_loop);
    loop->at(Deadline::in(1h), [by_timer] {});
    const auto by_watch = std::make_shared<Owned>(*loop, ended_on_loop);
    EXPECT_TRUE(loop->watch(fd.get(), EPOLLIN, [by_watch](std::uint32_t) {}).is_ok());
  });
  loop->stop();
  EXPECT_EQ(ended_on_loop, 2);
}

TEST(Loop, tells_of_ready_descriptors_until_they_are_unwatched) {
  const auto loop = new_loop();
  const Fd fd = new_event();
  Event twice;
  int calls = 0;
  on_loop(*loop, [&] {
    const Status watched = loop->watch(fd.get(), EPOLLIN, [&](std::uint32_t events) {
      EXPECT_EQ(events, static_cast<std::uint32_t>(EPOLLIN));
      if (++calls < 2) return;  // level triggered: it is still readable
      loop->unwatch(fd.get());
      twice.set();
    });
    EXPECT_TRUE(watched.is_ok());
  });
  signal(fd);
  ASSERT_TRUE(twice.wait());
  on_loop(*loop, [] {});
  EXPECT_EQ(calls, 2);
}

TEST(Loop, changes_what_is_watched) {
  const auto loop = new_loop();
  const Fd fd = new_event();
  Event writable;
  on_loop(*loop, [&] {
    const Status watched = loop->watch(fd.get(), EPOLLIN, [&](std::uint32_t events) {
      EXPECT_EQ(events, static_cast<std::uint32_t>(EPOLLOUT));
      loop->unwatch(fd.get());
      writable.set();
    });
    EXPECT_TRUE(watched.is_ok());
    loop->change(fd.get(), EPOLLOUT);
  });
  EXPECT_TRUE(writable.wait());
}

TEST(Loop, tells_nothing_of_a_descriptor_that_another_callback_unwatched) {
  const auto loop = new_loop();
  const Fd first = new_event();
  const Fd second = new_event();
  signal(first);
  signal(second);
  int calls = 0;
  on_loop(*loop, [&] {
    for (const Fd* fd : {&first, &second}) {
      const Status watched = loop->watch(fd->get(), EPOLLIN, [&](std::uint32_t) {
        ++calls;
        loop->unwatch(first.get());
        loop->unwatch(second.get());
      });
      EXPECT_TRUE(watched.is_ok());
    }
  });
  on_loop(*loop, [] {});
  on_loop(*loop, [] {});
  EXPECT_EQ(calls, 1);
}

TEST(Loop, does_not_take_a_new_descriptor_for_an_old_one_of_its_number) {
  const auto loop = new_loop();
  const Fd trigger = new_event();
  Fd reused = new_event();
  signal(trigger);
  signal(reused);
  int old_calls = 0;
  int new_calls = 0;
  on_loop(*loop, [&] {
    EXPECT_TRUE(loop->watch(trigger.get(), EPOLLIN,
                            [&](std::uint32_t) {
                              take(trigger.get());
                              const int number = reused.get();
                              loop->unwatch(number);
                              reused = Fd();
                              reused = new_event();
                              EXPECT_EQ(reused.get(), number);  // the kernel gives the lowest free number
                              EXPECT_TRUE(loop->watch(number, EPOLLIN, [&](std::uint32_t) { ++new_calls; }).is_ok());
                            })
                    .is_ok());
    EXPECT_TRUE(loop->watch(reused.get(), EPOLLIN,
                            [&](std::uint32_t) {
                              ++old_calls;
                              take(reused.get());
                            })
                    .is_ok());
  });
  on_loop(*loop, [] {});
  on_loop(*loop, [] {});
  EXPECT_LE(old_calls, 1);
  EXPECT_EQ(new_calls, 0);
}

TEST(Loop, says_why_a_descriptor_cannot_be_watched) {
  const auto loop = new_loop();
  const Status status = on_loop(*loop, [&] { return loop->watch(100000, EPOLLIN, [](std::uint32_t) {}); });
  EXPECT_THAT(status.message(), testing::HasSubstr("cannot watch a descriptor"));
}

TEST(Loop, runs_timers_in_order_not_before_their_time_and_not_once_cancelled) {
  const auto loop = new_loop();
  std::vector<int> order;
  Event last;
  const auto start = Clock::now();
  on_loop(*loop, [&] {
    loop->at(Deadline::in(20ms), [&] {
      EXPECT_GE(Clock::now() - start, 20ms);
      order.push_back(2);
    });
    loop->at(Deadline::in(10ms), [&] {
      EXPECT_GE(Clock::now() - start, 10ms);
      order.push_back(1);
    });
    const Loop::TimerId cancelled = loop->at(Deadline::in(5ms), [&] { order.push_back(-1); });
    loop->cancel(cancelled);
    loop->cancel(cancelled);
    loop->cancel(12345);
    loop->at(Deadline::in(30ms), [&] { last.set(); });
    loop->at(Deadline::never(), [&] { order.push_back(-2); });
  });
  ASSERT_TRUE(last.wait());
  EXPECT_THAT(order, ElementsAre(1, 2));
}

TEST(Loop, timers_may_set_and_cancel_timers) {
  const auto loop = new_loop();
  Event done;
  on_loop(*loop, [&] {
    loop->at(Deadline::in(1ms), [&] {
      const Loop::TimerId victim = loop->at(Deadline::in(0ms), [] { FAIL(); });
      loop->at(Deadline::in(2ms), [&] { done.set(); });
      loop->cancel(victim);
    });
  });
  EXPECT_TRUE(done.wait());
}

TEST(Loop, timers_that_set_themselves_again_are_not_all_that_runs) {
  std::atomic<bool> stop{false};
  const auto loop = new_loop();
  const Deadline passed = Deadline::in(0ms);
  std::function<void()> again = [&] {
    if (!stop) loop->at(passed, again);
  };
  Event ran;
  on_loop(*loop, [&] { loop->at(passed, again); });
  loop->post([&] { loop->at(passed, [&] { ran.set(); }); });
  EXPECT_TRUE(ran.wait());
  stop = true;
  on_loop(*loop, [] {});
}

TEST(Loop, timers_may_cancel_others_that_are_due) {
  const auto loop = new_loop();
  Loop::TimerId victim = 0;
  Event later;
  on_loop(*loop, [&] {
    const Deadline passed = Deadline::in(0ms);
    loop->at(passed, [&] { loop->cancel(victim); });
    victim = loop->at(passed, [] { FAIL(); });
    loop->at(passed, [&] { later.set(); });
  });
  EXPECT_TRUE(later.wait());
}

TEST(Loop, uses_no_time_while_nothing_happens) {
  const auto loop = new_loop();
  const Fd fd = new_event();
  clockid_t clock{};
  on_loop(*loop, [&] {
    EXPECT_TRUE(loop->watch(fd.get(), EPOLLIN, [](std::uint32_t) {}).is_ok());
    loop->at(Deadline::in(1h), [] {});
    ::pthread_getcpuclockid(::pthread_self(), &clock);
  });
  const auto cpu_time = [&] {
    timespec time{};
    ::clock_gettime(clock, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  const auto rests = [&] {  // it may still be on its way into epoll_wait at first
    const auto before = cpu_time();
    std::this_thread::sleep_for(300ms);  // the time that is looked at
    return cpu_time() == before;
  };
  EXPECT_TRUE(test::eventually(rests));
}

TEST(Loop, does_nothing_in_a_forked_child) {
  auto loop = new_loop();
  EXPECT_TRUE(test::in_child([&] {
    const bool posted = loop->post([] {});
    loop->stop();
    loop.reset();
    return !posted;
  }));
  Event still_runs;
  loop->post([&] { still_runs.set(); });
  EXPECT_TRUE(still_runs.wait());
}

TEST(Loop, knows_its_longest_turn) {
  const auto loop = test::new_loop();
  loop->post([] {
    const auto now = [] {
      timespec time{};
      ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
      return time.tv_sec * 1'000'000'000 + time.tv_nsec;
    };
    const auto end = now() + 20'000'000;
    while (now() < end) continue;
  });
  test::on_loop(*loop, [] { return 0; });
  EXPECT_TRUE(test::eventually([&] { return loop->longest_turn() >= std::chrono::milliseconds(20); }));
  EXPECT_LT(loop->longest_turn(), std::chrono::milliseconds(60)) << "and not the sum of them";
}

}  // namespace
}  // namespace ray_hixl::net
