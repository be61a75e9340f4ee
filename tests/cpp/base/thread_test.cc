#include "base/thread.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <array>
#include <csignal>
#include <string>

#include "support/child.h"
#include "support/event.h"
#include "support/forbidden_calls.h"

namespace ray_hixl {
namespace {

TEST(Thread, has_its_name_and_blocks_every_signal) {
  bool blocked = false;
  test::Event named;
  Result<std::thread> thread = start_thread("a-name-that-is-too-long", [&] {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, nullptr, &mask);
    blocked = sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGTERM) == 1;
    EXPECT_TRUE(named.wait());
  });
  std::array<char, 32> name{};
  pthread_getname_np(thread->native_handle(), name.data(), name.size());
  named.set();
  thread->join();
  EXPECT_EQ(std::string(name.data()), "a-name-that-is-");
  EXPECT_TRUE(blocked);
}

TEST(Thread, leaves_the_signals_of_its_maker_alone) {
  sigset_t before;
  sigset_t after;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  start_thread("t", [] {})->join();
  pthread_sigmask(SIG_SETMASK, nullptr, &after);
  EXPECT_EQ(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
}

TEST(Thread, that_cannot_be_had_is_named_with_its_limit) {
  test::without_threads([] {
    const Status status = start_thread("t", [] { FAIL(); }).status();
    EXPECT_EQ(status.code(), Code::kOutOfMemory);
    EXPECT_NE(status.message().find("ulimit -u"), std::string::npos) << status.message();
  });
}

TEST(ProcessGuard, knows_a_forked_child) {
  const ProcessGuard guard;
  EXPECT_FALSE(guard.in_child());
  EXPECT_TRUE(guard.check().is_ok());
  EXPECT_TRUE(test::in_child([&] { return guard.in_child() && guard.check().code() == Code::kClosed; }));
}

}  // namespace
}  // namespace ray_hixl
