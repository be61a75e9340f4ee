#include "transport/hixl/connectors.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::size_t kMostThreads = 4;

}  // namespace

struct Connectors::State {
  State(std::string the_name, std::function<void()> the_prepare) : name(std::move(the_name)), prepare(std::move(the_prepare)) {}

  const std::string name;
  const std::function<void()> prepare;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<Errand> errands;  // guarded by mutex, as all below
  std::vector<std::thread> threads;
  std::size_t working = 0;  // of the threads: not at their end
  std::size_t idle = 0;
  bool stopped = false;

  void work() {
    prepare();
    std::unique_lock lock(mutex);
    while (!stopped) {
      if (errands.empty()) {
        ++idle;
        changed.wait(lock, [this] { return stopped || !errands.empty(); });
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

void Connectors::run(Errand errand) {
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopped) return;
    state_->errands.push_back(std::move(errand));
    if (state_->errands.size() > state_->idle && state_->working < kMostThreads) {
      ++state_->working;
      state_->threads.push_back(start_thread(state_->name, [state = state_] { state->work(); }));
    }
  }
  state_->changed.notify_one();
}

bool Connectors::stop(Deadline deadline) {
  std::deque<Errand> dropped;
  std::unique_lock lock(state_->mutex);
  state_->stopped = true;
  dropped.swap(state_->errands);
  state_->changed.notify_all();
  const bool ended = state_->changed.wait_until(lock, deadline.when(), [this] { return state_->working == 0; });
  std::vector<std::thread> threads = std::exchange(state_->threads, {});
  lock.unlock();
  for (std::thread& thread : threads) ended ? thread.join() : thread.detach();
  return ended;
}

}  // namespace ray_hixl::transport::hixl
