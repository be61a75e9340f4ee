#include "memory/reaper.h"

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/process_shared.h"
#include "base/thread.h"

namespace ray_hixl::memory {

struct Reaper::Impl {
  const ProcessGuard process;
  Mutex mutex;
  Condition wake;
  std::vector<std::shared_ptr<const void>> waiting RAY_HIXL_GUARDED_BY(mutex);
  bool stopped RAY_HIXL_GUARDED_BY(mutex) = false;
  std::thread thread RAY_HIXL_GUARDED_BY(mutex);  // stop() takes it
  std::atomic<std::thread::id> runs_on{};         // the thread's id while it runs

  void run();
  void drop(std::shared_ptr<const void> owner);
  void start_once() RAY_HIXL_REQUIRES(mutex);
};

void Reaper::Impl::run() {
  runs_on = std::this_thread::get_id();
  MutexLock lock(mutex);
  while (true) {
    while (!stopped && waiting.empty()) wake.wait(lock);
    if (waiting.empty()) break;
    std::vector<std::shared_ptr<const void>> batch;
    batch.swap(waiting);
    lock.unlock();
    batch.clear();
    lock.lock();
  }
  runs_on = std::thread::id();
}

// Where no thread can be had, owners wait for the next try or for stop().
void Reaper::Impl::start_once() {
  if (thread.joinable()) return;
  if (Result<std::thread> started = start_thread("hixl-reaper", [this] { run(); }); started.is_ok()) thread = *std::move(started);
}

void Reaper::Impl::drop(std::shared_ptr<const void> owner) {
  if (owner.use_count() == 0) return;
  if (process.in_child()) {
    // The owner belongs to the parent; what its destructor would touch may be locked for ever here.
    return leak(std::move(owner));
  }
  {
    const MutexLock lock(mutex);
    if (!stopped) {
      start_once();
      waiting.push_back(std::move(owner));
    }
  }
  wake.notify_one();
}

Reaper::Reaper() : impl_(make_process_shared<Impl>()) {}

Reaper::~Reaper() { stop(); }

void Reaper::drop(std::shared_ptr<const void> owner) { impl_->drop(std::move(owner)); }

std::function<void(std::shared_ptr<const void>)> Reaper::dropper() {
  return [impl = impl_](std::shared_ptr<const void> owner) { impl->drop(std::move(owner)); };
}

std::shared_ptr<const void> Reaper::adopt(std::shared_ptr<const void> owner) {
  if (owner.use_count() == 0) return nullptr;
  const void* address = owner.get();
  return {address, [impl = impl_, kept = std::move(owner)](const void*) mutable { impl->drop(std::move(kept)); }};
}

void Reaper::let_go(Impl& impl, std::shared_ptr<const void> object) {
  if (on_event_loop()) impl.drop(std::move(object));
}

void Reaper::stop() {
  if (impl_->process.in_child()) return;
  std::thread thread;
  std::vector<std::shared_ptr<const void>> never_started;
  {
    const MutexLock lock(impl_->mutex);
    impl_->stopped = true;
    thread.swap(impl_->thread);
    if (!thread.joinable()) never_started.swap(impl_->waiting);
  }
  if (!thread.joinable()) return;
  impl_->wake.notify_one();
  thread.join();
}

bool Reaper::on_reaper() const { return impl_->runs_on.load() == std::this_thread::get_id(); }

}  // namespace ray_hixl::memory
