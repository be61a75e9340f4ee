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
  std::size_t threads = 0;
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
    --threads;
    changed.notify_all();
  }
};

Connectors::Connectors(std::string thread_name, std::function<void()> prepare)
    : state_(std::make_shared<State>(std::move(thread_name), std::move(prepare))) {}

Connectors::~Connectors() = default;

void Connectors::run(Errand errand) {
  bool start = false;
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->stopped) return;
    state_->errands.push_back(std::move(errand));
    start = state_->errands.size() > state_->idle && state_->threads < kMostThreads;
    if (start) ++state_->threads;
  }
  if (start) start_thread(state_->name, [state = state_] { state->work(); }).detach();
  state_->changed.notify_one();
}

bool Connectors::stop(Deadline deadline) {
  std::deque<Errand> dropped;
  std::unique_lock lock(state_->mutex);
  state_->stopped = true;
  dropped.swap(state_->errands);
  state_->changed.notify_all();
  return state_->changed.wait_until(lock, deadline.when(), [this] { return state_->threads == 0; });
}

}  // namespace ray_hixl::transport::hixl
