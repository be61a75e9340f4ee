// Mutex, MutexLock, TimedMutex, TimedLock and Condition: the standard ones, with the annotations by which clang proves that guarded data is
// used under its lock.
//
// Every mutex of ray-hixl is one of these, and every member that it guards says so with RAY_HIXL_GUARDED_BY. clang checks it with
// -Wthread-safety (the stage "thread safety" of `make test`); for other compilers the annotations are nothing.
// Source of the attributes: https://clang.llvm.org/docs/ThreadSafetyAnalysis.html
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "base/deadline.h"
#include "base/fork.h"

#ifdef __clang__
#define RAY_HIXL_ATTRIBUTE(...) __attribute__((__VA_ARGS__))
#else
#define RAY_HIXL_ATTRIBUTE(...)
#endif

// Of a member: read and written with that mutex held only. Of a function: called with it held, or without it.
#define RAY_HIXL_GUARDED_BY(mutex) RAY_HIXL_ATTRIBUTE(guarded_by(mutex))
#define RAY_HIXL_REQUIRES(...) RAY_HIXL_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define RAY_HIXL_EXCLUDES(...) RAY_HIXL_ATTRIBUTE(locks_excluded(__VA_ARGS__))
// What the analysis cannot follow. Each use says why, and docs/threading.md lists them all.
#define RAY_HIXL_UNCHECKED RAY_HIXL_ATTRIBUTE(no_thread_safety_analysis)

namespace ray_hixl {

class RAY_HIXL_ATTRIBUTE(capability("mutex")) Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

 private:
  friend class MutexLock;
  std::mutex mutex_;
};

// Held from its making to its end, with a pause between unlock() and lock() where a function needs one.
class RAY_HIXL_ATTRIBUTE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) RAY_HIXL_ATTRIBUTE(acquire_capability(mutex)) : lock_(mutex.mutex_) {}
  ~MutexLock() RAY_HIXL_ATTRIBUTE(release_capability()) {}  // NOLINT(modernize-use-equals-default): a defaulted one takes no attribute
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void lock() RAY_HIXL_ATTRIBUTE(acquire_capability()) { lock_.lock(); }
  void unlock() RAY_HIXL_ATTRIBUTE(release_capability()) { lock_.unlock(); }

 private:
  friend class Condition;
  std::unique_lock<std::mutex> lock_;
};

// One that can be waited for until a deadline: what is held over calls which may take long. To be let go of by a TimedLock.
class RAY_HIXL_ATTRIBUTE(capability("mutex")) TimedMutex {
 public:
  TimedMutex() = default;
  TimedMutex(const TimedMutex&) = delete;
  TimedMutex& operator=(const TimedMutex&) = delete;

  // False once `deadline` passed.
  [[nodiscard]] bool try_lock_until(Deadline deadline) RAY_HIXL_ATTRIBUTE(try_acquire_capability(true)) {
    if (deadline.when() != Clock::time_point::max()) return mutex_.try_lock_until(deadline.when());
    mutex_.lock();  // as for Condition
    return true;
  }

 private:
  friend class TimedLock;
  std::timed_mutex mutex_;
};

// Takes over what try_lock_until() locked.
class RAY_HIXL_ATTRIBUTE(scoped_lockable) TimedLock {
 public:
  explicit TimedLock(TimedMutex& mutex) RAY_HIXL_ATTRIBUTE(requires_capability(mutex)) : lock_(mutex.mutex_, std::adopt_lock) {}
  ~TimedLock() RAY_HIXL_ATTRIBUTE(release_capability()) {}  // NOLINT(modernize-use-equals-default): as for MutexLock
  TimedLock(const TimedLock&) = delete;
  TimedLock& operator=(const TimedLock&) = delete;

 private:
  const std::unique_lock<std::timed_mutex> lock_;
};

// Waits are loops: `while (!ready_) ready_or_not_.wait(lock);`. A predicate given as a lambda would be analysed without the lock.
class Condition {
 public:
  Condition() {}  // NOLINT(modernize-use-equals-default): a union's would be deleted
  // In a forked child it is left as it is: destroying it would wait for the parent's threads that wait for it.
  ~Condition() {
    if (generation_ == process_generation()) condition_.~condition_variable();
  }
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;

  void notify_one() noexcept { condition_.notify_one(); }
  void notify_all() noexcept { condition_.notify_all(); }
  void wait(MutexLock& lock) { condition_.wait(lock.lock_); }
  // False once `deadline` passed.
  bool wait_until(MutexLock& lock, Deadline deadline) {
    if (deadline.when() != Clock::time_point::max())
      return condition_.wait_until(lock.lock_, deadline.when()) == std::cv_status::no_timeout;
    condition_.wait(lock.lock_);  // beyond what the system's clock can say
    return true;
  }

 private:
  union {
    std::condition_variable condition_{};
  };
  const std::uint32_t generation_ = process_generation();
};

}  // namespace ray_hixl
