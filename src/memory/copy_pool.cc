#include "memory/copy_pool.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"

namespace ray_hixl::memory {
namespace {

constexpr std::uint32_t kMostDefaultThreads = 4;

// A work and how far it is. The last part to end takes the work out, so that nobody touches it after finished().
struct Item {
  explicit Item(std::shared_ptr<CopyWork> the_work, std::size_t the_parts)
      : work(std::move(the_work)), parts(the_parts), remaining(the_parts) {}
  std::shared_ptr<CopyWork> work;
  const std::size_t parts;
  std::size_t next = 0;                // part to hand out; guarded by the pool's mutex
  std::atomic<std::size_t> remaining;  // parts not yet run

  // So many parts have run or need not. REQUIRES: they were handed out to the caller.
  void ended(std::size_t count) {
    if (remaining.fetch_sub(count, std::memory_order_acq_rel) != count) return;
    const std::shared_ptr<CopyWork> last = std::move(work);
    last->finished();
  }
};

class Task final : public CopyWork {
 public:
  explicit Task(std::function<void()> task) : task_(std::move(task)) {}
  [[nodiscard]] std::size_t parts() const override { return 1; }
  bool run(std::size_t) override {
    task_();
    return true;
  }
  void finished() override {}

 private:
  const std::function<void()> task_;
};

std::uint32_t default_threads() { return std::clamp(std::thread::hardware_concurrency(), 1u, kMostDefaultThreads); }

}  // namespace

struct CopyPool::Impl {
  explicit Impl(std::uint32_t the_count) : count(the_count) {}
  const std::uint32_t count;
  const ProcessGuard process;
  Mutex mutex;
  Condition wake;
  std::deque<std::shared_ptr<Item>> items RAY_HIXL_GUARDED_BY(mutex);  // works with parts to hand out, in turn
  std::vector<std::thread> threads RAY_HIXL_GUARDED_BY(mutex);         // stop() takes them
  bool stopped RAY_HIXL_GUARDED_BY(mutex) = false;

  void run();
  std::size_t take_rest(const std::shared_ptr<Item>& item);
  Status start_threads() RAY_HIXL_REQUIRES(mutex);
};

void CopyPool::Impl::run() {
  MutexLock lock(mutex);
  while (true) {
    while (!stopped && items.empty()) wake.wait(lock);
    if (items.empty()) return;
    std::shared_ptr<Item> item = std::move(items.front());
    items.pop_front();
    const std::size_t part = item->next++;
    if (item->next < item->parts) items.push_back(item);
    lock.unlock();
    const bool goes_on = item->work->run(part);
    item->ended(goes_on ? 1 : 1 + take_rest(item));
    item.reset();
    lock.lock();
  }
}

// The parts that were not handed out yet; they are not run any more.
std::size_t CopyPool::Impl::take_rest(const std::shared_ptr<Item>& item) {
  const MutexLock lock(mutex);
  std::erase(items, item);
  return item->parts - std::exchange(item->next, item->parts);
}

// Not ok if there is no thread at all; fewer than wanted do.
Status CopyPool::Impl::start_threads() {
  while (threads.size() < count) {
    Result<std::thread> thread = start_thread("hixl-copy-" + std::to_string(threads.size()), [this] { run(); });
    if (!thread.is_ok()) return threads.empty() ? thread.status().with_context("copying") : Status::ok();
    threads.push_back(*std::move(thread));
  }
  return Status::ok();
}

CopyPool::CopyPool(std::uint32_t threads) : impl_(std::make_unique<Impl>(threads == 0 ? default_threads() : threads)) {}

CopyPool::~CopyPool() {
  stop();
  if (impl_->process.in_child()) leak(std::move(impl_));  // threads of the parent can be neither joined nor forgotten
}

Status CopyPool::submit(std::shared_ptr<CopyWork> work) {
  const Status closed(Code::kClosed, "the engine was closed");
  if (impl_->process.in_child()) return closed;
  const std::size_t parts = work->parts();
  auto item = std::make_shared<Item>(std::move(work), parts);
  {
    const MutexLock lock(impl_->mutex);
    if (impl_->stopped) return closed;
    if (parts > 0) {
      RAY_HIXL_RETURN_IF_ERROR(impl_->start_threads());
      impl_->items.push_back(item);
    }
  }
  if (parts == 0) item->work->finished();
  for (std::size_t i = std::min<std::size_t>(parts, impl_->count); i > 0; --i) impl_->wake.notify_one();
  return Status::ok();
}

Status CopyPool::run(std::function<void()> task) { return submit(std::make_shared<Task>(std::move(task))); }

void CopyPool::stop() {
  if (impl_->process.in_child()) return;
  std::vector<std::thread> threads;
  {
    const MutexLock lock(impl_->mutex);
    impl_->stopped = true;
    threads.swap(impl_->threads);
  }
  impl_->wake.notify_all();
  for (std::thread& thread : threads) thread.join();
}

std::uint32_t CopyPool::threads() const { return impl_->count; }

}  // namespace ray_hixl::memory
