// For what happens a moment after a call returned, in another thread: asks again until it is so, or five seconds passed.
#pragma once

#include <chrono>
#include <thread>

namespace ray_hixl::test {

template <class Condition>
[[nodiscard]] bool eventually(Condition condition, std::chrono::nanoseconds patience = std::chrono::seconds(5)) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return condition();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace ray_hixl::test
