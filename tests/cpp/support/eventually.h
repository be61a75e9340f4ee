// For what happens a moment after a call returned, in another thread: asks again until it is so, or five seconds passed by the
// yardstick.
#pragma once

#include <chrono>
#include <thread>

#include "support/yardstick.h"

namespace ray_hixl::test {

template <class Condition>
[[nodiscard]] bool eventually(Condition condition, std::chrono::nanoseconds patience = std::chrono::seconds(5)) {
  const auto start = std::chrono::steady_clock::now();
  while (!condition()) {
    const auto waited = std::chrono::steady_clock::now() - start;
    if (waited >= patience && waited >= scaled(patience)) return condition();  // the yardstick is asked only where it matters
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace ray_hixl::test
