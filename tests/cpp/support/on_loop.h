// For what may only be called on a loop's thread.
#pragma once

#include <future>
#include <utility>

#include "net/loop.h"

namespace ray_hixl::test {

inline std::unique_ptr<net::Loop> new_loop() { return std::move(net::Loop::create("test-loop")).value(); }

// Runs `call` on the loop thread and waits for it. REQUIRES: another thread; the loop is not stopped.
template <class Call>
auto on_loop(net::Loop& loop, Call call) {
  std::packaged_task<decltype(call())()> task(std::move(call));
  auto result = task.get_future();
  loop.post([&task] { task(); });
  return result.get();
}

}  // namespace ray_hixl::test
