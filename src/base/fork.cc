#include "base/fork.h"

#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <ranges>
#include <vector>

namespace ray_hixl {

constinit std::atomic<std::uint64_t> fork_detail::count{0};
constinit std::atomic<std::uint32_t> fork_detail::generation{0};

namespace {

// Shared by NoFork, exclusive while the process forks. Not base/mutex.h's: it is taken in one function and let go in another, and a fork
// must not wait for ever behind readers that take turns.
pthread_rwlock_t forking = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

struct Handlers {
  void (*prepare)();
  void (*parent)();
  void (*child)();
};

// Guarded by `forking`. Never destroyed: a process may fork while it exits.
std::vector<Handlers>& registered() {
  static std::vector<Handlers>& instance = *new std::vector<Handlers>;
  return instance;
}

// libc runs the handlers of two threads that fork at once side by side. So it knows these three only, which let one thread in.
void before_fork() {
  pthread_rwlock_wrlock(&forking);
  fork_detail::count.fetch_add(1);
  for (const Handlers& each : registered() | std::views::reverse) {
    if (each.prepare != nullptr) each.prepare();
  }
}

void after_fork_in_parent() {
  for (const Handlers& each : registered()) {
    if (each.parent != nullptr) each.parent();
  }
  fork_detail::count.fetch_add(1);
  pthread_rwlock_unlock(&forking);
}

void after_fork_in_child() {
  fork_detail::generation.fetch_add(1);
  for (const Handlers& each : registered()) {
    if (each.child != nullptr) each.child();
  }
  fork_detail::count.fetch_add(1);
  pthread_rwlock_unlock(&forking);
  // Threads of the parent that were waiting for it are counted inside and will never come: the next fork would wait for them.
  forking = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
}

bool watch_for_forks() {
  (void)registered();  // made, or a child might wait for the thread that makes it
  if (::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) == 0) return true;
  std::fputs("ray-hixl: no memory to watch for forks\n", stderr);
  std::abort();
}
const bool kWatched = watch_for_forks();

}  // namespace

bool on_fork(void (*prepare)(), void (*parent)(), void (*child)()) {
  pthread_rwlock_wrlock(&forking);
  registered().push_back({prepare, parent, child});
  pthread_rwlock_unlock(&forking);
  return true;
}

NoFork::NoFork() noexcept { pthread_rwlock_rdlock(&forking); }
NoFork::~NoFork() { pthread_rwlock_unlock(&forking); }

}  // namespace ray_hixl
