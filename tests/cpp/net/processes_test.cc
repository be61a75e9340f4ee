#include "net/processes.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "net/socket.h"
#include "support/event.h"
#include "support/eventually.h"
#include "support/on_loop.h"
#include "support/refused_calls.h"

namespace ray_hixl::net {
namespace {

using test::Event;
using test::on_loop;
using Watched = Result<std::shared_ptr<WatchedProcess>>;

// A process that does nothing.
class Child {
 public:
  Child() : pid_(::fork()) {
    if (pid_ != 0) return;
    ::pause();
    ::_exit(0);
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  [[nodiscard]] std::uint32_t pid() const { return static_cast<std::uint32_t>(pid_); }
  void end() {
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

 private:
  pid_t pid_;
};

class ProcessesTest : public testing::Test {
 protected:
  ~ProcessesTest() override { loop->stop(); }
  Watched watch(std::uint32_t pid) {
    return on_loop(*loop, [&] { return processes.watch(pid); });
  }

  const std::unique_ptr<Loop> loop = test::new_loop();
  Processes processes{*loop};
};

TEST_F(ProcessesTest, have_one_watch_for_each_process) {
  Child first;
  Child second;
  const auto watched = watch(first.pid()).value();
  EXPECT_EQ(watch(first.pid()).value(), watched);
  EXPECT_NE(watch(second.pid()).value(), watched);
  EXPECT_TRUE(watched->alive());
  EXPECT_EQ(watched->pid(), first.pid());
}

TEST_F(ProcessesTest, tell_everyone_once_who_asked) {
  Child child;
  const auto watched = watch(child.pid()).value();
  Event first;  // a second set() would throw
  Event second;
  std::vector<WatchedProcess::Subscription> subscriptions;
  on_loop(*loop, [&] {
    subscriptions.push_back(watched->on_death([&] { first.set(); }));
    subscriptions.push_back(watched->on_death([&] { second.set(); }));
  });
  child.end();
  EXPECT_TRUE(first.wait());
  EXPECT_TRUE(second.wait());
  EXPECT_FALSE(watched->alive());
  on_loop(*loop, [&] { subscriptions.clear(); });
}

TEST_F(ProcessesTest, tell_nobody_whose_subscription_ended) {
  Child child;
  const auto watched = watch(child.pid()).value();
  Event told;
  on_loop(*loop, [&] {
    auto dropped = watched->on_death([] { FAIL(); });
    dropped.reset();
  });
  WatchedProcess::Subscription kept;
  on_loop(*loop, [&] { kept = watched->on_death([&] { told.set(); }); });
  child.end();
  EXPECT_TRUE(told.wait());
  on_loop(*loop, [&] { kept.reset(); });
}

TEST_F(ProcessesTest, tell_of_a_death_before_the_question_from_the_loop) {
  Child child;
  const auto watched = watch(child.pid()).value();
  child.end();
  EXPECT_TRUE(test::eventually([&] { return !watched->alive(); }));
  Event told;
  WatchedProcess::Subscription kept;
  on_loop(*loop, [&] { kept = watched->on_death([&] { told.set(); }); });
  EXPECT_TRUE(told.wait());
  on_loop(*loop, [&] { kept.reset(); });
}

TEST_F(ProcessesTest, watch_no_process_that_has_ended) {
  Child child;
  const std::uint32_t pid = child.pid();
  const auto watched = watch(pid).value();
  child.end();
  EXPECT_EQ(watch(pid).status().code(), Code::kPeerGone);
}

TEST_F(ProcessesTest, say_that_a_process_cannot_be_watched) {
  Child child;
  const bool refused = on_loop(*loop, [] { return test::refuse_call(SYS_epoll_ctl, ENOSPC); });  // in the loop's thread
  ASSERT_TRUE(refused);
  EXPECT_EQ(watch(child.pid()).status().code(), Code::kOutOfMemory);
}

TEST_F(ProcessesTest, may_be_let_go_of_on_any_thread) {
  Child child;
  for (int i = 0; i < 100; ++i) {
    auto watched = watch(child.pid()).value();
    if (i % 2 == 0) {
      watched.reset();
    } else {
      on_loop(*loop, [&] { watched.reset(); });
    }
  }
  const auto watched = watch(child.pid()).value();
  Event told;
  WatchedProcess::Subscription kept;
  on_loop(*loop, [&] { kept = watched->on_death([&] { told.set(); }); });
  child.end();
  EXPECT_TRUE(told.wait());
  on_loop(*loop, [&] { kept.reset(); });
}

TEST_F(ProcessesTest, know_who_is_at_the_other_end_of_a_unix_socket) {
  std::array<int, 2> pair{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
  const Fd near(pair[0]);
  const Fd far(pair[1]);
  const auto peer = on_loop(*loop, [&] { return processes.watch_peer(near); });
  ASSERT_TRUE(peer.is_ok()) << peer.status().to_string();
  EXPECT_EQ((*peer)->pid(), static_cast<std::uint32_t>(::getpid()));
  EXPECT_TRUE((*peer)->alive());
  const Fd tcp = std::move(listen_tcp("127.0.0.1")).value();
  EXPECT_FALSE(on_loop(*loop, [&] { return processes.watch_peer(tcp); }).is_ok());
}

}  // namespace
}  // namespace ray_hixl::net
