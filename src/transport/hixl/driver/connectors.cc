#include "transport/hixl/driver/connectors.h"

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::size_t kMostThreads = 4;

}  // namespace

struct Connectors::State {
  State(std::string the_name, std::function<void()> the_prepare) : name(std::move(the_name)), prepare(std::move(the_prepare)) {}

  const std::string name;
  const std::function<void()> prepare;
  Mutex mutex;
  Condition changed;
  std::deque<Errand> errands RAY_HIXL_GUARDED_BY(mutex);
  std::vector<std::thread> threads RAY_HIXL_GUARDED_BY(mutex);
  std::size_t working RAY_HIXL_GUARDED_BY(mutex) = 0;  // of the threads: not at their end
  std::size_t idle RAY_HIXL_GUARDED_BY(mutex) = 0;
  bool stopped RAY_HIXL_GUARDED_BY(mutex) = false;

  void work() {
    prepare();
    MutexLock lock(mutex);
    while (!stopped) {
      if (errands.empty()) {
        ++idle;
        while (!stopped && errands.empty()) changed.wait(lock);
        --idle;
        continue;
      }
      const Errand errand = std::move(errands.front());
      errands.pop_front();
      lock.unlock();
      errand();
      lock.lock();
    }
    --working;
    changed.notify_all();
  }
};

Connectors::Connectors(std::string thread_name, std::function<void()> prepare)
    : state_(std::make_shared<State>(std::move(thread_name), std::move(prepare))) {}

Connectors::~Connectors() = default;

Status Connectors::run(Errand errand) {
  {
    const MutexLock lock(state_->mutex);
    if (state_->stopped) return Status::ok();
    if (state_->errands.size() >= state_->idle && state_->working < kMostThreads) {
      Result<std::thread> thread = start_thread(state_->name, [state = state_] { state->work(); });
      if (thread.is_ok()) {
        ++state_->working;
        state_->threads.push_back(*std::move(thread));
      } else if (state_->working == 0) {
        return thread.status();
      }
    }
    state_->errands.push_back(std::move(errand));
  }
  state_->changed.notify_one();
  return Status::ok();
}

bool Connectors::stop(Deadline deadline) {
  std::deque<Errand> dropped;
  MutexLock lock(state_->mutex);
  state_->stopped = true;
  dropped.swap(state_->errands);
  state_->changed.notify_all();
  while (state_->working > 0 && state_->changed.wait_until(lock, deadline)) continue;
  const bool ended = state_->working == 0;
  std::vector<std::thread> threads = std::exchange(state_->threads, {});
  lock.unlock();
  for (std::thread& thread : threads) ended ? thread.join() : thread.detach();
  return ended;
}

}  // namespace ray_hixl::transport::hixl
