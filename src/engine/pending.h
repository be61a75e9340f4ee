// Pending: an answer that a callback gives once and one caller waits for. Shared by both, so that either may come late or never.
#pragma once

#include <optional>
#include <utility>

#include "base/deadline.h"
#include "base/mutex.h"

namespace ray_hixl {

template <class T>
class Pending {
 public:
  // Any thread. The first answer counts.
  void set(T answer) {
    const MutexLock lock(mutex_);
    if (!answer_) answer_ = std::move(answer);
    arrived_.notify_all();
  }

  // The answer, moved out, or nullopt once `deadline` passed.
  [[nodiscard]] std::optional<T> wait(Deadline deadline) {
    MutexLock lock(mutex_);
    while (!answer_ && arrived_.wait_until(lock, deadline)) continue;
    return std::move(answer_);
  }

 private:
  Mutex mutex_;
  Condition arrived_;
  std::optional<T> answer_ RAY_HIXL_GUARDED_BY(mutex_);
};

}  // namespace ray_hixl
