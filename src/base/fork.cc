#include "base/fork.h"

#include <pthread.h>

#include <cstdio>
#include <cstdlib>

namespace ray_hixl {

constinit std::atomic<std::uint64_t> fork_detail::count{0};
constinit std::atomic<std::uint32_t> fork_detail::generation{0};

namespace {

// Shared by NoFork, exclusive while the process forks. Not base/mutex.h's: it is taken in one function and let go in another, and a fork
// must not wait for ever behind readers that take turns.
pthread_rwlock_t forking = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

void before_fork() {
  pthread_rwlock_wrlock(&forking);
  fork_detail::count.fetch_add(1);
}

void after_fork_in_parent() {
  fork_detail::count.fetch_add(1);
  pthread_rwlock_unlock(&forking);
}

void after_fork_in_child() {
  fork_detail::generation.fetch_add(1);
  fork_detail::count.fetch_add(1);
  pthread_rwlock_unlock(&forking);
  // Threads of the parent that were waiting for it are counted inside and will never come: the next fork would wait for them.
  forking = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
}

const bool kHandlersInstalled = on_fork(before_fork, after_fork_in_parent, after_fork_in_child);

}  // namespace

bool on_fork(void (*prepare)(), void (*parent)(), void (*child)()) {
  if (::pthread_atfork(prepare, parent, child) == 0) return true;
  std::fputs("ray-hixl: no memory to watch for forks\n", stderr);
  std::abort();
}

NoFork::NoFork() noexcept { pthread_rwlock_rdlock(&forking); }
NoFork::~NoFork() { pthread_rwlock_unlock(&forking); }

}  // namespace ray_hixl
