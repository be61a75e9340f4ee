#include "transport/hixl/driver/connectors.h"

#include <algorithm>
#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::size_t kMostThreads = 64;

}  // namespace

struct Connectors::State {
  State(std::string the_name, std::function<void()> the_prepare, std::chrono::nanoseconds the_idle_time)
      : name(std::move(the_name)), prepare(std::move(the_prepare)), idle_time(the_idle_time) {}

  const std::string name;
  const std::function<void()> prepare;
  const std::chrono::nanoseconds idle_time;
  Mutex mutex;
  Condition changed;
  std::deque<Errand> errands RAY_HIXL_GUARDED_BY(mutex);
  std::vector<std::thread> threads RAY_HIXL_GUARDED_BY(mutex);
  std::thread ended RAY_HIXL_GUARDED_BY(mutex);        // the one that ended last for want of errands: joined by the next that ends
  std::size_t working RAY_HIXL_GUARDED_BY(mutex) = 0;  // of the threads: not at their end
  std::size_t idle RAY_HIXL_GUARDED_BY(mutex) = 0;
  bool stopped RAY_HIXL_GUARDED_BY(mutex) = false;

  void work() {
    prepare();
    MutexLock lock(mutex);
    while (!stopped) {
      if (errands.empty()) {
        if (wait_for_errands(lock)) continue;
        std::thread before = resign();
        lock.unlock();
        if (before.joinable()) before.join();
        return;
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

  // False: none came for long, and others are there to wait for the next.
  bool wait_for_errands(MutexLock& lock) RAY_HIXL_REQUIRES(mutex) {
    Deadline end = Deadline::in(idle_time);
    ++idle;
    while (!stopped && errands.empty() && !(end.passed() && working > 1)) {
      if (end.passed()) end = Deadline::never();
      changed.wait_until(lock, end);
    }
    --idle;
    return stopped || !errands.empty();
  }

  // The calling thread is none of the others any more. Gives the one that did so before.
  std::thread resign() RAY_HIXL_REQUIRES(mutex) {
    const auto own = std::ranges::find(threads, std::this_thread::get_id(), &std::thread::get_id);
    std::thread before = std::exchange(ended, std::move(*own));
    threads.erase(own);
    --working;
    return before;
  }
};

Connectors::Connectors(std::string thread_name, std::function<void()> prepare, std::chrono::nanoseconds idle)
    : state_(std::make_shared<State>(std::move(thread_name), std::move(prepare), idle)) {}

Connectors::~Connectors() = default;

Status Connectors::run(Errand errand) {
  {
    const MutexLock lock(state_->mutex);
    if (state_->stopped) return Status(Code::kClosed, "the engine was closed");
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
  const bool all_ended = state_->working == 0;
  std::vector<std::thread> threads = std::exchange(state_->threads, {});
  std::thread last = std::exchange(state_->ended, {});
  lock.unlock();
  for (std::thread& thread : threads) all_ended ? thread.join() : thread.detach();
  if (last.joinable()) last.join();
  return all_ended;
}

}  // namespace ray_hixl::transport::hixl
