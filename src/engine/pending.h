// Pending: an answer that a callback gives once and one caller waits for. Shared by both, so that either may come late or never.
#pragma once

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "base/deadline.h"

namespace ray_hixl {

template <class T>
class Pending {
 public:
  // Any thread. The first answer counts.
  void set(T answer) {
    const std::lock_guard lock(mutex_);
    if (!answer_) answer_ = std::move(answer);
    arrived_.notify_all();
  }

  // The answer, moved out, or nullopt once `deadline` passed.
  [[nodiscard]] std::optional<T> wait(Deadline deadline) {
    std::unique_lock lock(mutex_);
    arrived_.wait_until(lock, deadline.when(), [this] { return answer_.has_value(); });
    return std::move(answer_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::optional<T> answer_;  // guarded by mutex_
};

}  // namespace ray_hixl
