// fork: how this process tells that it was forked, or is the fork.
//
// A forked child has a copy of the parent's memory and one of its threads. Whatever the other threads were at (locks they held, bytes they
// moved, descriptors they waited for) never ends there. So nothing of the parent's engines is used in a child: everything asks
// ProcessGuard (base/thread.h), which costs one load. What belongs to the process rather than to an engine starts anew by on_fork().
//
// vfork and posix_spawn (Python's subprocess) count as no fork: their child shares the memory and only calls exec. A raw clone is not seen.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace ray_hixl {

namespace fork_detail {
extern std::atomic<std::uint64_t> count;
extern std::atomic<std::uint32_t> generation;
}  // namespace fork_detail

// Rises before every fork of this process, and again after it: whatever was made before a fork, or while it went on, finds another count
// once it is over, and may have a copy in the child. Any thread.
[[nodiscard]] inline std::uint64_t fork_count() noexcept { return fork_detail::count.load(std::memory_order_acquire); }

// How many forks led to this process; constant for as long as it lives. Any thread.
[[nodiscard]] inline std::uint32_t process_generation() noexcept { return fork_detail::generation.load(std::memory_order_relaxed); }

// Registers what runs at every fork, for ever: `prepare` before it, in the reverse order of registration; `parent` and `child` after it, in
// that order. Null where there is nothing to do. One thread at a time forks, from the first `prepare` to the last `parent`, and no NoFork
// lives meanwhile, so none may be made in them. In the child only what is safe in a signal handler may be done: the registered functions
// run in the thread that forked. Meant for initializers of namespace-scope variables, so it gives a value.
bool on_fork(void (*prepare)(), void (*parent)(), void (*child)());

// A T of the process, which is never destroyed, so that it can be used while the process exits. A forked child begins with a new one in
// the same place: what the parent's holds is about threads that are not there, and its locks may be held for ever. For a variable at
// namespace scope, with [[gnu::init_priority(101)]], so that statics of a program that is linked statically find it, and beside it
//   const bool kNewInChild = on_fork(nullptr, nullptr, [] { variable.begin_anew(); });
template <class T>
class ProcessWide {
 public:
  ProcessWide() { begin_anew(); }
  void begin_anew() { ::new (static_cast<void*>(place_)) T; }
  [[nodiscard]] T& operator*() { return *std::launder(reinterpret_cast<T*>(place_)); }

 private:
  alignas(T) std::byte place_[sizeof(T)];
};

// While one lives, no other thread forks this process: between a system call that makes or closes a descriptor and the note of it
// (base/fd.h), or in a library whose locks the child would find held. They share. For moments that do not block; one thread must not hold
// two.
class NoFork {
 public:
  NoFork() noexcept;
  ~NoFork();
  NoFork(const NoFork&) = delete;
  NoFork& operator=(const NoFork&) = delete;
};

}  // namespace ray_hixl
