// Hook: a callback that others set. It is called without a lock; once set() has returned, the one before is neither running nor called.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "base/mutex.h"

namespace ray_hixl::memory {

// Any thread; set() not from the callback itself.
template <class... Arguments>
class Hook {
 public:
  using Callback = std::function<void(Arguments...)>;

  void set(Callback callback) {
    std::shared_ptr<const Callback> next = callback ? std::make_shared<const Callback>(std::move(callback)) : nullptr;
    MutexLock lock(mutex_);
    callback_.swap(next);
    while (running_ > 0) idle_.wait(lock);
  }

  void call(Arguments... arguments) {
    std::shared_ptr<const Callback> callback;
    {
      const MutexLock lock(mutex_);
      if (!callback_) return;
      callback = callback_;
      ++running_;
    }
    (*callback)(arguments...);
    callback.reset();
    const MutexLock lock(mutex_);
    if (--running_ == 0) idle_.notify_all();
  }

 private:
  Mutex mutex_;
  Condition idle_;
  std::shared_ptr<const Callback> callback_ RAY_HIXL_GUARDED_BY(mutex_);  // shared with the calls under way
  int running_ RAY_HIXL_GUARDED_BY(mutex_) = 0;
};

}  // namespace ray_hixl::memory
