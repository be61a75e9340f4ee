#include "base/thread.h"

#include <pthread.h>

#include <system_error>

#include "base/signals.h"

namespace ray_hixl {

namespace {
thread_local bool is_event_loop = false;
thread_local bool is_own = false;

// Whatever the forking thread was, it is the main thread of the child.
const bool kOrdinaryInChild = on_fork(nullptr, nullptr, [] { is_event_loop = is_own = false; });
}  // namespace

void become_event_loop() { is_event_loop = true; }

bool on_event_loop() { return is_event_loop; }

bool on_thread_of_an_engine() { return is_own; }

Result<std::thread> start_thread(const std::string& name, std::function<void()> body) {
  const SignalsBlocked blocked;  // inherited by the new thread
  try {
    std::thread thread([body = std::move(body)] {
      is_own = true;
      body();
    });
    pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
    return thread;
  } catch (const std::system_error& error) {
    return Status(Code::kOutOfMemory, "no thread can be had (" + error.code().message() +
                                          "): raise the limit of threads (ulimit -u, or the container's limit of pids) or of memory");
  }
}

Status ProcessGuard::closed() {
  return Status(
      Code::kClosed,
      "this engine belongs to the parent process: its threads did not survive the fork. Create an engine of your own in the child");
}

}  // namespace ray_hixl
