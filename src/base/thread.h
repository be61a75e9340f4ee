// Named threads, and the check that this process is still the one that started them.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "base/fork.h"
#include "ray_hixl/status.h"

namespace ray_hixl {

// Starts a thread named `name` (at most 15 bytes, shown by top -H) with all signals blocked. kOutOfMemory where none can be had.
[[nodiscard]] Result<std::thread> start_thread(const std::string& name, std::function<void()> body);

// Was the calling thread started by that?
[[nodiscard]] bool on_thread_of_an_engine();

// Marks the calling thread as an event loop: everybody waits for it, so what takes long is done, and let go, elsewhere.
void become_event_loop();
[[nodiscard]] bool on_event_loop();

// Remembers the process that made it. After a fork the child has the memory but none of the threads.
class ProcessGuard {
 public:
  [[nodiscard]] bool in_child() const noexcept { return process_generation() != generation_; }
  // kClosed with a sentence about fork if called in a forked child.
  [[nodiscard]] Status check() const { return in_child() ? closed() : Status::ok(); }
  // That Status.
  [[nodiscard]] static Status closed();

 private:
  const std::uint32_t generation_ = process_generation();
};

// For a forked child, in place of a destructor: what would be destroyed belongs to the parent, whose locks may never be free here.
template <class T>
void leak(T value) {
  new T(std::move(value));
}

}  // namespace ray_hixl
