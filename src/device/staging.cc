#include "device/staging.h"

#include <array>
#include <deque>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/thread.h"
#include "device/device.h"

namespace ray_hixl::device {
namespace {

Status closed() { return Status(Code::kClosed, "the engine was closed"); }

// The buffers of one way.
struct Buffers {
  std::vector<std::byte*> idle;
  std::size_t out = 0;  // given to somebody
  std::deque<Staging::Taken> waiting;

  [[nodiscard]] bool can_serve() const { return !waiting.empty() && (!idle.empty() || out < Staging::kBuffersEachWay); }
};

}  // namespace

struct Staging::Impl : std::enable_shared_from_this<Impl> {
  Impl(std::string the_name, std::unique_ptr<StagingRuntime> the_runtime) : name(std::move(the_name)), runtime(std::move(the_runtime)) {}
  ~Impl();

  const std::string name;
  const std::unique_ptr<StagingRuntime> runtime;
  const ProcessGuard process;
  Mutex mutex;
  Condition wake;
  std::array<Buffers, 2> ways RAY_HIXL_GUARDED_BY(mutex);
  std::deque<Task> tasks RAY_HIXL_GUARDED_BY(mutex);
  std::thread thread RAY_HIXL_GUARDED_BY(mutex);  // stop() takes it
  bool stopped RAY_HIXL_GUARDED_BY(mutex) = false;

  [[nodiscard]] Buffers& of(Way way) RAY_HIXL_REQUIRES(mutex) { return ways[static_cast<std::size_t>(way)]; }
  [[nodiscard]] Status start() RAY_HIXL_REQUIRES(mutex);
  void run();
  [[nodiscard]] std::function<void()> next_step(const Status& entered) RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] std::function<void()> serve(Way way, const Status& entered) RAY_HIXL_REQUIRES(mutex);
  void hand_over(Way way, const Result<std::byte*>& memory, const Taken& taken);
  [[nodiscard]] Result<std::byte*> take_memory(std::byte* idle, const Status& entered) const;
  void give_back(Way way, std::byte* memory);
};

Staging::Impl::~Impl() {
  if (process.in_child() || memory_is_left()) return;
  for (const Buffers& buffers : ways) {
    for (std::byte* const memory : buffers.idle) runtime->free(memory);
  }
}

Status Staging::Impl::start() {
  if (stopped) return closed();
  if (thread.joinable()) return Status::ok();
  Result<std::thread> started = start_thread(name, [this] { run(); });
  if (!started.is_ok()) return started.status().with_context("staging device memory");
  thread = *std::move(started);
  return Status::ok();
}

void Staging::Impl::run() {
  const Status entered = runtime->enter();
  MutexLock lock(mutex);
  while (true) {
    std::function<void()> step = next_step(entered);
    if (step) {
      lock.unlock();
      std::exchange(step, nullptr)();  // with what it keeps, maybe a buffer
      lock.lock();
    } else if (stopped) {
      return;
    } else {
      wake.wait(lock);
    }
  }
}

// Tasks first: they are what buffers come back by.
std::function<void()> Staging::Impl::next_step(const Status& entered) {
  if (!tasks.empty()) {
    Task task = std::move(tasks.front());
    tasks.pop_front();
    return [this, task = std::move(task)]() mutable { std::exchange(task, nullptr)(*runtime); };
  }
  for (const Way way : {Way::kOut, Way::kIn}) {
    if (stopped || !of(way).can_serve()) continue;
    return serve(way, entered);
  }
  return nullptr;
}

std::function<void()> Staging::Impl::serve(Way way, const Status& entered) {
  Buffers& buffers = of(way);
  Taken taken = std::move(buffers.waiting.front());
  buffers.waiting.pop_front();
  std::byte* idle = nullptr;
  if (!buffers.idle.empty()) {
    idle = buffers.idle.back();
    buffers.idle.pop_back();
  }
  ++buffers.out;
  return [this, way, idle, &entered, taken = std::move(taken)]() mutable {
    hand_over(way, take_memory(idle, entered), std::exchange(taken, nullptr));
  };
}

void Staging::Impl::hand_over(Way way, const Result<std::byte*>& memory, const Taken& taken) {
  if (!memory.is_ok()) {
    give_back(way, nullptr);
    return taken(memory.status());
  }
  taken(Buffer(*memory, [self = shared_from_this(), way](std::byte* bytes) { self->give_back(way, bytes); }));
}

Result<std::byte*> Staging::Impl::take_memory(std::byte* idle, const Status& entered) const {
  RAY_HIXL_RETURN_IF_ERROR(entered);
  if (idle != nullptr) return idle;
  return runtime->allocate(kBufferBytes);
}

void Staging::Impl::give_back(Way way, std::byte* memory) {
  if (process.in_child()) return;
  {
    const MutexLock lock(mutex);
    --of(way).out;
    if (memory != nullptr) of(way).idle.push_back(memory);
  }
  wake.notify_one();
}

Staging::Staging(std::string name, std::unique_ptr<StagingRuntime> runtime)
    : impl_(std::make_shared<Impl>(std::move(name), std::move(runtime))) {}

Staging::~Staging() {
  stop();
  if (impl_->process.in_child()) leak(std::move(impl_));  // the parent's thread can be neither joined nor forgotten
}

void Staging::take(Way way, const Taken& taken) {
  Status started = impl_->process.check();
  if (started.is_ok()) {
    const MutexLock lock(impl_->mutex);
    started = impl_->start();
    if (started.is_ok()) impl_->of(way).waiting.push_back(taken);
  }
  if (!started.is_ok()) return taken(started);
  impl_->wake.notify_one();
}

Status Staging::run(Task task) {
  RAY_HIXL_RETURN_IF_ERROR(impl_->process.check());
  {
    const MutexLock lock(impl_->mutex);
    RAY_HIXL_RETURN_IF_ERROR(impl_->start());
    impl_->tasks.push_back(std::move(task));
  }
  impl_->wake.notify_one();
  return Status::ok();
}

void Staging::stop() {
  if (impl_->process.in_child()) return;
  std::thread thread;
  {
    const MutexLock lock(impl_->mutex);
    impl_->stopped = true;
    thread.swap(impl_->thread);
  }
  impl_->wake.notify_one();
  if (thread.joinable()) thread.join();
  for (const Way way : {Way::kOut, Way::kIn}) {
    std::deque<Taken> waiting;
    {
      const MutexLock lock(impl_->mutex);
      waiting.swap(impl_->of(way).waiting);
    }
    for (const Taken& taken : waiting) taken(closed());
  }
}

}  // namespace ray_hixl::device
