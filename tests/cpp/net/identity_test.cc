#include "net/identity.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "support/child.h"
#include "support/signal_storm.h"

namespace ray_hixl::net {
namespace {

TEST(HostIdentity, is_that_of_this_process) {
  const HostIdentity self = this_process().value();
  EXPECT_EQ(self.pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(self.uid, ::geteuid());
  EXPECT_NE(self.boot_id, decltype(self.boot_id){});
  EXPECT_NE(self.pid_namespace, 0u);
  EXPECT_NE(self.network_namespace, 0u);
}

TEST(HostIdentity, of_a_child_differs_in_the_pid_only) {
  const HostIdentity self = this_process().value();
  EXPECT_TRUE(test::in_child([&] {
    const HostIdentity child = this_process().value();
    return child.pid != self.pid && child.boot_id == self.boot_id && child.pid_namespace == self.pid_namespace &&
           child.network_namespace == self.network_namespace && child.uid == self.uid;
  }));
}

pid_t start_child() {
  const pid_t child = ::fork();
  if (child != 0) return child;
  ::pause();
  ::_exit(0);
}

TEST(ProcessWatch, sees_the_end_of_a_process) {
  const pid_t child = start_child();
  const Result<ProcessWatch> watch = ProcessWatch::open(static_cast<std::uint32_t>(child));
  ASSERT_TRUE(watch.is_ok()) << watch.status().to_string();
  EXPECT_TRUE(watch->alive());
  ::kill(child, SIGKILL);
  pollfd ended{watch->fd(), POLLIN, 0};
  EXPECT_EQ(::poll(&ended, 1, 10'000), 1);
  EXPECT_FALSE(watch->alive());  // even while nobody has waited for it
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(watch->alive());
  EXPECT_EQ(ProcessWatch::open(static_cast<std::uint32_t>(child)).status().code(), Code::kPeerGone);
}

TEST(ProcessWatch, takes_no_signal_for_the_end_of_a_process) {
  const pid_t child = start_child();
  const ProcessWatch watch = ProcessWatch::open(static_cast<std::uint32_t>(child)).value();
  {
    const test::SignalStorm storm;
    int polls = 0;
    int dead = 0;
    for (; polls < 100'000 || test::SignalStorm::signals() < 100; ++polls) dead += watch.alive() ? 0 : 1;
    EXPECT_EQ(dead, 0) << "of " << polls << " polls beside " << test::SignalStorm::signals() << " signals";
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_FALSE(watch.alive());
}

}  // namespace
}  // namespace ray_hixl::net
