// The yardstick: how much longer things take here than on the idle machine, with optimized code, for which tests state their bounds.
//
// A bound about time that a test asserts is multiplied by it, so that it also holds in sanitizer builds and beside other work:
//   EXPECT_LT(took, scaled(5s));
#pragma once

#include <chrono>

namespace ray_hixl::test {

// Each is measured once in a process (some 20 ms), and is 1 to 20.
[[nodiscard]] double cpu_yardstick();   // of this build's computing, in thread CPU time: what a sanitizer costs
[[nodiscard]] double wall_yardstick();  // of computing and of handing over between threads, by the clock: what a busy machine costs, too

template <class Rep, class Period>
[[nodiscard]] std::chrono::nanoseconds scaled(std::chrono::duration<Rep, Period> bound) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(bound * wall_yardstick());
}
// For a bound of thread CPU time.
template <class Rep, class Period>
[[nodiscard]] std::chrono::nanoseconds scaled_cpu(std::chrono::duration<Rep, Period> bound) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(bound * cpu_yardstick());
}

}  // namespace ray_hixl::test
