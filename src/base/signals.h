// SignalsBlocked: for as long as it lives, no signal interrupts the calling thread.
//
// For system calls that undo all they did when a signal comes: begun again they would never end under a timer signal of the user's. Also
// for starting threads, which inherit it: signals are the user's threads' to handle.
#pragma once

#include <pthread.h>

#include <csignal>

namespace ray_hixl {

class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace ray_hixl
