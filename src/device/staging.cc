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

constexpr std::uint64_t kPinnedPage = 4096;

Staging::Way other(Staging::Way way) { return way == Staging::Way::kOut ? Staging::Way::kIn : Staging::Way::kOut; }

Status engine_closed() { return Status(Code::kClosed, "the engine was closed"); }

// Of one buffer.
struct Memory {
  std::byte* address = nullptr;
  std::shared_ptr<const memory::Block> block;  // of the arena; null: the runtime gave it
  bool is_pinned = false;                      // of ours
  bool can_be_mapped = false;                  // by peers
};

// The buffers of one way.
struct Buffers {
  std::vector<Memory> idle;
  std::size_t out = 0;                                   // given to somebody
  std::size_t had = 0;                                   // out, when there was no memory for more
  Deadline is_short_until = Deadline::at(Clock::now());  // then it is asked for again
  std::deque<Staging::Taken> waiting;

  // Out at a time.
  [[nodiscard]] std::size_t most() const { return is_short_until.passed() ? Staging::kBuffersEachWay : had; }
  [[nodiscard]] bool can_serve() const { return !waiting.empty() && (!idle.empty() || out < most()); }
};

}  // namespace

struct Staging::Impl : std::enable_shared_from_this<Impl> {
  struct Task {
    Work work;
    Done done;
  };
  // What may take as long as the device likes, and what tells of it.
  using Tell = std::function<void()>;
  using Step = std::function<Tell()>;

  Impl(std::string the_name, std::unique_ptr<StagingRuntime> the_runtime, std::shared_ptr<memory::Arena> the_source,
       std::chrono::nanoseconds the_idle_time)
      : name(std::move(the_name)), runtime(std::move(the_runtime)), source(std::move(the_source)), idle_time(the_idle_time) {}
  ~Impl();

  const std::string name;
  const std::unique_ptr<StagingRuntime> runtime;
  const std::shared_ptr<memory::Arena> source;
  const std::chrono::nanoseconds idle_time;
  const ProcessGuard process;
  Mutex mutex;
  Condition wake;    // the thread
  Condition ending;  // who waits for its end
  std::array<Buffers, 2> ways RAY_HIXL_GUARDED_BY(mutex);
  Way turn RAY_HIXL_GUARDED_BY(mutex) = Way::kOut;  // is served first
  std::deque<Task> tasks RAY_HIXL_GUARDED_BY(mutex);
  std::thread thread RAY_HIXL_GUARDED_BY(mutex);       // stop() takes it
  bool has_worked RAY_HIXL_GUARDED_BY(mutex) = false;  // in its last step
  bool stopped RAY_HIXL_GUARDED_BY(mutex) = false;
  bool has_ended RAY_HIXL_GUARDED_BY(mutex) = false;       // the thread
  bool is_left_behind RAY_HIXL_GUARDED_BY(mutex) = false;  // what it would tell of is gone

  [[nodiscard]] Buffers& of(Way way) RAY_HIXL_REQUIRES(mutex) { return ways[static_cast<std::size_t>(way)]; }
  [[nodiscard]] Status start() RAY_HIXL_REQUIRES(mutex);
  void run();
  [[nodiscard]] Step next_step(const Status& entered) RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] Step work_one() RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] Step serve_one(const Status& entered) RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] Step serve(Way way, const Status& entered) RAY_HIXL_REQUIRES(mutex);
  void hand_over(Way way, const Result<Memory>& memory, const Taken& taken);
  [[nodiscard]] Result<Memory> take_memory(Way way, Memory idle, const Status& entered) const;
  [[nodiscard]] Result<Memory> take_block() const;
  void give_back(Way way, const Memory& memory);
  [[nodiscard]] std::vector<Memory> take_idle() RAY_HIXL_REQUIRES(mutex);
  void free(std::vector<Memory> idle) const;
  [[nodiscard]] Step let_go() RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] bool has_idle() const RAY_HIXL_REQUIRES(mutex) { return !ways[0].idle.empty() || !ways[1].idle.empty(); }
  [[nodiscard]] bool is_waited_for() const RAY_HIXL_REQUIRES(mutex) { return !ways[0].waiting.empty() || !ways[1].waiting.empty(); }
};

Staging::Impl::~Impl() {
  if (process.in_child()) return;
  const MutexLock lock(mutex);
  free(take_idle());
}

std::vector<Memory> Staging::Impl::take_idle() {
  std::vector<Memory> all;
  for (Buffers& buffers : ways) {
    for (Memory& memory : std::exchange(buffers.idle, {})) all.push_back(std::move(memory));
  }
  return all;
}

void Staging::Impl::free(std::vector<Memory> idle) const {
  if (memory_is_left()) return leak(std::move(idle));
  for (const Memory& memory : idle) {
    if (!memory.block) runtime->free(memory.address);
    if (memory.is_pinned) runtime->unpin(memory.address);
  }
}

Status Staging::Impl::start() {
  if (stopped) return engine_closed();
  if (thread.joinable()) return Status::ok();
  Result<std::thread> started = start_thread(name, [self = shared_from_this()] { self->run(); });
  if (!started.is_ok()) return started.status().with_context("staging device memory");
  thread = *std::move(started);
  return Status::ok();
}

void Staging::Impl::run() {
  const Status entered = runtime->enter();
  MutexLock lock(mutex);
  for (bool is_idle = false;;) {
    Step step = next_step(entered);
    if (!step && (is_idle || stopped) && has_idle()) step = let_go();
    is_idle = false;
    if (step) {
      lock.unlock();
      Tell tell = std::exchange(step, nullptr)();
      lock.lock();
      while (is_left_behind) wake.wait(lock);
      lock.unlock();
      std::exchange(tell, nullptr)();  // with what it keeps, maybe a buffer
      lock.lock();
    } else if (stopped) {
      break;
    } else if (has_idle() || is_waited_for()) {
      is_idle = !wake.wait_until(lock, Deadline::in(idle_time));
    } else {
      wake.wait(lock);
    }
  }
  has_ended = true;
  ending.notify_all();
}

// Of idle memory, here, where the device is: what comes back after the thread's end is freed without it.
Staging::Impl::Step Staging::Impl::let_go() {
  return [this, idle = take_idle()]() mutable -> Tell {
    free(std::exchange(idle, {}));
    return [] {};
  };
}

// Work and buffers by turns, so that neither waits for the end of the other.
Staging::Impl::Step Staging::Impl::next_step(const Status& entered) {
  Step step;
  if (has_worked) step = serve_one(entered);
  has_worked = !step && !tasks.empty();
  if (has_worked) step = work_one();
  return step ? std::move(step) : serve_one(entered);
}

Staging::Impl::Step Staging::Impl::work_one() {
  Task task = std::move(tasks.front());
  tasks.pop_front();
  return [this, task = std::move(task)]() mutable -> Tell {
    return [status = std::exchange(task.work, nullptr)(*runtime), done = std::move(task.done)] { done(status); };
  };
}

// Both ways by turns, too: those who want buffers of one may be so many that some always wait.
Staging::Impl::Step Staging::Impl::serve_one(const Status& entered) {
  for (const Way way : {turn, other(turn)}) {
    if (stopped || !of(way).can_serve()) continue;
    turn = other(way);
    return serve(way, entered);
  }
  return nullptr;
}

Staging::Impl::Step Staging::Impl::serve(Way way, const Status& entered) {
  Buffers& buffers = of(way);
  Taken taken = std::move(buffers.waiting.front());
  buffers.waiting.pop_front();
  Memory idle;
  if (!buffers.idle.empty()) {
    idle = std::move(buffers.idle.back());
    buffers.idle.pop_back();
  }
  ++buffers.out;
  return [this, way, idle = std::move(idle), &entered, taken = std::move(taken)]() mutable -> Tell {
    return [this, way, memory = take_memory(way, std::move(idle), entered), taken = std::move(taken)] { hand_over(way, memory, taken); };
  };
}

// Without memory for another one, it waits for one that comes back, if there is any, or until it is time to ask again.
void Staging::Impl::hand_over(Way way, const Result<Memory>& memory, const Taken& taken) {
  if (memory.is_ok()) {
    return taken(Buffer(memory->address, [self = shared_from_this(), way, kept = *memory](std::byte*) { self->give_back(way, kept); }));
  }
  {
    const MutexLock lock(mutex);
    Buffers& buffers = of(way);
    if (--buffers.out > 0) {
      buffers.had = buffers.out;
      buffers.is_short_until = Deadline::in(idle_time);
      return buffers.waiting.push_front(taken);
    }
  }
  taken(memory.status());
}

Result<Memory> Staging::Impl::take_memory(Way way, Memory idle, const Status& entered) const {
  RAY_HIXL_RETURN_IF_ERROR(entered);
  if (idle.address != nullptr) return idle;
  if (way == Way::kOut) {
    Result<Memory> block = take_block();
    if (block.is_ok() || block.status().code() != Code::kOutOfMemory) return block;  // else no descriptor, say, is left
  }
  const Result<std::byte*> allocated = runtime->allocate(kBufferBytes);
  if (!allocated.is_ok()) return allocated.status();
  return Memory{*allocated, nullptr, false, false};
}

// Whole pages are pinned, so that two buffers must not share one.
Result<Memory> Staging::Impl::take_block() const {
  Result<std::shared_ptr<const memory::Block>> block = source->allocate(kBufferBytes + kPinnedPage);
  if (!block.is_ok()) return block.status();
  std::byte* const begin = (*block)->address;
  std::byte* const address = begin + (kPinnedPage - reinterpret_cast<std::uintptr_t>(begin) % kPinnedPage) % kPinnedPage;
  return Memory{address, *std::move(block), runtime->pin(address, kBufferBytes), source->find(address).has_value()};
}

void Staging::Impl::give_back(Way way, const Memory& memory) {
  if (process.in_child()) return;
  {
    const MutexLock lock(mutex);
    --of(way).out;
    auto& idle = of(way).idle;
    idle.insert(memory.can_be_mapped ? idle.end() : idle.begin(), memory);  // what can be mapped is used first
  }
  wake.notify_one();
}

Staging::Staging(std::string name, std::unique_ptr<StagingRuntime> runtime, std::shared_ptr<memory::Arena> source,
                 std::chrono::nanoseconds idle)
    : impl_(std::make_shared<Impl>(std::move(name), std::move(runtime), std::move(source), idle)) {}

Staging::~Staging() {
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

bool Staging::has_spare(Way way) const {
  const MutexLock lock(impl_->mutex);
  const Buffers& buffers = impl_->of(way);
  return buffers.waiting.empty() && buffers.out < buffers.most() / 2;
}

Status Staging::run(Work work, Done done) {
  RAY_HIXL_RETURN_IF_ERROR(impl_->process.check());
  {
    const MutexLock lock(impl_->mutex);
    RAY_HIXL_RETURN_IF_ERROR(impl_->start());
    impl_->tasks.push_back({std::move(work), std::move(done)});
  }
  impl_->wake.notify_one();
  return Status::ok();
}

bool Staging::stop(Deadline deadline) {
  if (impl_->process.in_child()) return true;
  std::thread thread;
  bool has_ended = true;
  bool is_left_behind = false;  // now, or by a stop before
  {
    MutexLock lock(impl_->mutex);
    impl_->stopped = true;
    thread.swap(impl_->thread);
    impl_->wake.notify_one();
    while (thread.joinable() && !impl_->has_ended && impl_->ending.wait_until(lock, deadline)) continue;
    has_ended = !thread.joinable() || impl_->has_ended;
    impl_->is_left_behind = impl_->is_left_behind || !has_ended;
    is_left_behind = impl_->is_left_behind;
  }
  if (thread.joinable()) has_ended ? thread.join() : thread.detach();
  for (const Way way : {Way::kOut, Way::kIn}) {
    std::deque<Taken> waiting;
    {
      const MutexLock lock(impl_->mutex);
      waiting.swap(impl_->of(way).waiting);
    }
    for (const Taken& taken : waiting) taken(engine_closed());
  }
  return !is_left_behind;
}

}  // namespace ray_hixl::device
