// Named threads, and the check that this process is still the one that started them.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "ray_hixl/status.h"

namespace ray_hixl {

// Starts a thread named `name` (at most 15 bytes, shown by top -H) with all signals blocked.
[[nodiscard]] std::thread start_thread(const std::string& name, std::function<void()> body);

// Remembers the process that made it. After a fork the child has the memory but none of the threads.
class ProcessGuard {
 public:
  ProcessGuard();
  [[nodiscard]] bool in_child() const noexcept;
  // kClosed with a sentence about fork if called in a forked child.
  [[nodiscard]] Status check() const;

 private:
  int pid_;
};

}  // namespace ray_hixl
