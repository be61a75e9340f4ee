#include "base/thread.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>

namespace ray_hixl {

std::thread start_thread(const std::string& name, std::function<void()> body) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // inherited by the new thread
  std::thread thread;
  try {
    thread = std::thread(std::move(body));
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), name.substr(0, 15).c_str());
  return thread;
}

ProcessGuard::ProcessGuard() : pid_(::getpid()) {}

bool ProcessGuard::in_child() const noexcept { return ::getpid() != pid_; }

Status ProcessGuard::check() const {
  if (!in_child()) return Status::ok();
  return Status(
      Code::kClosed,
      "this engine belongs to the parent process: its threads did not survive the fork. Create an engine of your own in the child");
}

}  // namespace ray_hixl
