// SignalStorm: for as long as it lives, a timer interrupts this process's main thread every 0.3 ms (longer apart in slow builds, or
// nothing else would run), by a signal with a handler and without SA_RESTART. The engine's own threads block signals.
#pragma once

#include <atomic>
#include <csignal>
#include <ctime>

#include "support/yardstick.h"

namespace ray_hixl::test {

class SignalStorm {
 public:
  SignalStorm() {
    struct sigaction action {};
    action.sa_handler = [](int) { count_.fetch_add(1, std::memory_order_relaxed); };
    ::sigaction(SIGUSR1, &action, &before_);
    sigevent event{};
    event.sigev_notify = SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    ::timer_create(CLOCK_MONOTONIC, &event, &timer_);
    const auto period = scaled_cpu(std::chrono::microseconds(300)).count();
    const timespec after{period / 1'000'000'000, period % 1'000'000'000};
    const itimerspec times{after, after};
    ::timer_settime(timer_, 0, &times, nullptr);
  }
  ~SignalStorm() {
    ::timer_delete(timer_);
    struct sigaction ignored {};
    ignored.sa_handler = SIG_IGN;
    ::sigaction(SIGUSR1, &ignored, nullptr);  // drops one that is still pending
    ::sigaction(SIGUSR1, &before_, nullptr);
  }
  SignalStorm(const SignalStorm&) = delete;
  SignalStorm& operator=(const SignalStorm&) = delete;

  [[nodiscard]] static std::uint64_t signals() { return count_.load(std::memory_order_relaxed); }  // in this process, so far

 private:
  static inline std::atomic<std::uint64_t> count_{0};
  struct sigaction before_ {};
  timer_t timer_{};
};

}  // namespace ray_hixl::test
