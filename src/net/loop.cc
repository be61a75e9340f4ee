#include "net/loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cassert>
#include <cerrno>
#include <ctime>
#include <limits>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/mutex.h"
#include "base/thread.h"

namespace ray_hixl::net {

struct Loop::Impl {
  struct Watch {
    std::uint64_t id;                      // told apart from an earlier watch of the same fd number within one epoll batch
    std::shared_ptr<FdCallback> callback;  // shared, so that it survives its own unwatch
  };

  ProcessGuard process;
  Fd epoll;
  Fd wake;
  std::thread thread;
  std::atomic<std::thread::id> thread_id{};
  std::atomic<std::int64_t> longest_turn{0};  // nanoseconds; written by the loop thread

  Mutex mutex;
  std::vector<Task> posted RAY_HIXL_GUARDED_BY(mutex);
  bool accepting RAY_HIXL_GUARDED_BY(mutex) = true;
  bool stop RAY_HIXL_GUARDED_BY(mutex) = false;
  Mutex stopping;  // serialises stop()

  // Loop thread only.
  std::unordered_map<int, Watch> watches;
  std::map<std::pair<Clock::time_point, TimerId>, Task> timers;
  std::unordered_map<TimerId, Clock::time_point> timer_times;
  std::uint64_t next_id = 1;

  void run();
  bool run_posted();
  void drop_callbacks();
  void run_timers();
  int timeout_ms() const;
  void dispatch(const epoll_event& event);
};

namespace {

constexpr std::uint64_t kWakeId = 0;

// epoll's 64-bit user data carries the fd and the low half of the watch's id.
std::uint64_t pack(int fd, std::uint64_t id) { return (id << 32) | static_cast<std::uint32_t>(fd); }

std::int64_t thread_cpu_time() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

Result<std::unique_ptr<Loop>> Loop::create(const std::string& thread_name) {
  auto impl = std::make_unique<Impl>();
  impl->epoll = Fd::make([] { return ::epoll_create1(EPOLL_CLOEXEC); });
  if (!impl->epoll) return errno_status(Code::kOutOfMemory, "cannot create an epoll instance");
  impl->wake = Fd::make([] { return ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); });
  if (!impl->wake) return errno_status(Code::kOutOfMemory, "cannot create an eventfd");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = pack(impl->wake.get(), kWakeId);
  if (::epoll_ctl(impl->epoll.get(), EPOLL_CTL_ADD, impl->wake.get(), &event) != 0) {
    return errno_status(Code::kOutOfMemory, "cannot watch an eventfd");
  }
  auto loop = std::unique_ptr<Loop>(new Loop(std::move(impl)));
  Impl* running = loop->impl_.get();
  Result<std::thread> thread = start_thread(thread_name, [running] {
    running->run();
    running->thread_id = std::thread::id();  // which another thread may have next
  });
  if (!thread.is_ok()) return thread.status().with_context("the event loop");
  running->thread = *std::move(thread);
  running->thread_id = running->thread.get_id();
  return loop;
}

Loop::Loop(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Loop::~Loop() {
  stop();
  if (impl_->process.in_child()) leak(std::move(impl_));  // with a thread of the parent
}

bool Loop::post(Task task) {
  if (impl_->process.in_child()) return false;
  bool sleeping = false;
  {
    const MutexLock lock(impl_->mutex);
    if (!impl_->accepting) return false;
    sleeping = impl_->posted.empty();  // otherwise it was woken already
    impl_->posted.push_back(std::move(task));
  }
  if (sleeping) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(impl_->wake.get(), &one, sizeof(one));
  }
  return true;
}

bool Loop::on_loop() const { return std::this_thread::get_id() == impl_->thread_id.load(); }

void Loop::stop() {
  if (impl_->process.in_child()) return;
  assert(!on_loop());
  const MutexLock once(impl_->stopping);
  if (!impl_->thread.joinable()) return;
  post([impl = impl_.get()] {
    const MutexLock lock(impl->mutex);
    impl->accepting = false;
    impl->stop = true;
  });
  impl_->thread.join();
}

std::chrono::nanoseconds Loop::longest_turn() const { return std::chrono::nanoseconds(impl_->longest_turn.load()); }

void Loop::Impl::run() {
  become_event_loop();
  thread_id = std::this_thread::get_id();
  std::array<epoll_event, 64> events{};
  std::int64_t turn_began = thread_cpu_time();
  while (true) {
    if (!run_posted()) return drop_callbacks();
    run_timers();
    // Before it may sleep for long: stats() shall not show a turn only once the next one has begun.
    const std::int64_t now = thread_cpu_time();
    if (now - turn_began > longest_turn.load(std::memory_order_relaxed)) longest_turn.store(now - turn_began, std::memory_order_relaxed);
    turn_began = now;
    int count = 0;
    do {
      count = ::epoll_wait(epoll.get(), events.data(), static_cast<int>(events.size()), timeout_ms());
    } while (count < 0 && errno == EINTR);
    for (int i = 0; i < count; ++i) dispatch(events[static_cast<std::size_t>(i)]);
  }
}

// On the loop thread, like every end of what they own. What they own may in turn use the loop.
void Loop::Impl::drop_callbacks() {
  while (!timers.empty() || !watches.empty()) {
    std::exchange(timers, {});
    std::exchange(watches, {});
  }
}

// False once the stop task ran.
bool Loop::Impl::run_posted() {
  std::vector<Task> tasks;
  {
    const MutexLock lock(mutex);
    tasks.swap(posted);
  }
  for (Task& task : tasks) {
    task();
    task = nullptr;
  }
  const MutexLock lock(mutex);
  return !stop || !posted.empty();
}

// What is due now. What these set in turn is for the next turn, whenever it is due, or one that sets itself again would be all that runs.
void Loop::Impl::run_timers() {
  std::vector<std::pair<Clock::time_point, TimerId>> due;
  const auto now = Clock::now();
  for (auto it = timers.begin(); it != timers.end() && it->first.first <= now; ++it) due.push_back(it->first);
  for (const auto& timer : due) {
    auto node = timers.extract(timer);
    if (node.empty()) continue;  // cancelled by another one
    timer_times.erase(timer.second);
    node.mapped()();
  }
}

int Loop::Impl::timeout_ms() const {
  if (timers.empty()) return -1;
  const auto left = timers.begin()->first.first - Clock::now();
  if (left <= Clock::duration::zero()) return 0;
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::min<std::int64_t>(ms, std::numeric_limits<int>::max()));
}

void Loop::Impl::dispatch(const epoll_event& event) {
  const int fd = static_cast<int>(event.data.u64 & 0xffffffffu);
  if (fd == wake.get()) {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t got = ::read(wake.get(), &count, sizeof(count));
    return;
  }
  const auto it = watches.find(fd);
  if (it == watches.end() || pack(fd, it->second.id) != event.data.u64) return;  // unwatched meanwhile
  const auto callback = it->second.callback;
  (*callback)(event.events);
}

Status Loop::watch(int fd, std::uint32_t events, FdCallback callback) {
  assert(on_loop());
  const std::uint64_t id = impl_->next_id++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd, id);
  if (::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) return errno_status(Code::kInternal, "cannot watch a descriptor");
  impl_->watches[fd] = {id, std::make_shared<FdCallback>(std::move(callback))};
  return Status::ok();
}

void Loop::change(int fd, std::uint32_t events) {
  assert(on_loop());
  const auto it = impl_->watches.find(fd);
  if (it == impl_->watches.end()) return;
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd, it->second.id);
  ::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_MOD, fd, &event);
}

void Loop::unwatch(int fd) {
  assert(on_loop());
  if (impl_->watches.erase(fd) == 0) return;
  epoll_event event{};
  ::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_DEL, fd, &event);
}

Loop::TimerId Loop::at(Deadline deadline, Task task) {
  assert(on_loop());
  const TimerId id = impl_->next_id++;
  impl_->timers.emplace(std::pair(deadline.when(), id), std::move(task));
  impl_->timer_times.emplace(id, deadline.when());
  return id;
}

void Loop::cancel(TimerId timer) {
  assert(on_loop());
  const auto it = impl_->timer_times.find(timer);
  if (it == impl_->timer_times.end()) return;
  impl_->timers.erase({it->second, timer});
  impl_->timer_times.erase(it);
}

}  // namespace ray_hixl::net
