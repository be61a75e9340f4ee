#include "transport/hixl/driver/driver.h"

#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <utility>

#include "base/thread.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::chrono::microseconds kSpin{30};
constexpr std::chrono::microseconds kShortestPause{10};
constexpr std::chrono::microseconds kLongestPause{200};

std::string thread_name(const char* what, int device) { return "hixl-" + std::string(what) + "-" + std::to_string(device); }

}  // namespace

Driver::Driver(Setup setup) : setup_(std::move(setup)), connectors_(thread_name("conn", setup_.device), setup_.prepare) {}

Driver::~Driver() = default;

Status Driver::start() {
  Result<std::thread> thread = start_thread(thread_name("npu", setup_.device), [this] { work(); });
  if (!thread.is_ok()) return thread.status();
  thread_ = *std::move(thread);
  return Status::ok();
}

Status Driver::closed() const { return Status(Code::kClosed, "the engine on " + device::npu_name(setup_.device) + " was closed"); }

bool Driver::post(Task task) {
  {
    const MutexLock lock(mutex_);
    if (stopped_) return false;
    tasks_.push_back(std::move(task));
  }
  posted_.notify_one();
  return true;
}

void Driver::submit(const std::string& name, std::shared_ptr<Move> move) {
  const bool posted = post([this, name, move] {
    if (closing_) return move->end(closed());
    auto& remote = remotes_[name];
    if (!remote) remote = std::make_shared<Remote>(*this, name);
    remote->add(move);
    begin_to_spin();
  });
  if (!posted) move->end(closed());
}

void Driver::recall(const std::string& name, std::function<void()> then) {
  const bool posted = post([this, name, then] {
    const auto found = remotes_.find(name);
    if (found == remotes_.end()) return then();
    found->second->recall(then);
  });
  if (!posted) then();
}

void Driver::heed_stops() {
  post([this] {
    for (const auto& [name, remote] : remotes_) remote->heed_stops();
  });
}

void Driver::abandon(const void* channel, const Status& why) {
  post([this, channel, why] {
    for (const auto& [name, remote] : remotes_) remote->abandon(channel, why);
  });
}

void Driver::run(std::function<Outcome()> call, std::function<void(Outcome)> done) {
  const Status taken = connectors_.run([this, call = std::move(call), done] { post([done, outcome = call()] { done(outcome); }); });
  if (taken.is_ok()) return;
  // Without any thread there is no link yet, so this was a connect: a disconnect finds the thread that connected.
  post([done = std::move(done), outcome = Outcome{kResourceExhausted, ": " + taken.message()}] { done(outcome); });
}

bool Driver::has_links() const {
  return std::ranges::any_of(remotes_, [](const auto& each) { return each.second->linked(); });
}

void Driver::work() {
  ::prctl(PR_SET_TIMERSLACK, 1000UL);  // pauses between polls are short
  setup_.prepare();
  while (!finished_) {
    run_tasks();
    if (in_flight()) (void)poll();
    advance_all();
    if (!finished_) wait();
  }
}

void Driver::run_tasks() {
  std::vector<Task> tasks;
  {
    const MutexLock lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const Task& task : tasks) task();
}

// In the order in which they came to wait. Those that are down and not wanted any more are forgotten.
void Driver::advance_all() {
  const bool is_late = quiet_by_ && quiet_by_->passed();
  by_turn_.clear();
  for (const auto& [name, remote] : remotes_) by_turn_.push_back(remote.get());
  std::ranges::sort(by_turn_, {}, &Remote::turn);
  for (Remote* const remote : by_turn_) {
    if (quieting_) remote->retire(is_late && tainted_);
    remote->advance();
  }
  give_turns();
  const bool went_down = std::erase_if(remotes_, [](const auto& each) { return each.second->idle(); }) > 0;
  if (went_down && link_down_) link_down_();
  advance_renewal();
  if (when_idle_ && remotes_.empty() && !renewing_) std::exchange(when_idle_, nullptr)();
}

bool Driver::in_flight() const {
  return std::ranges::any_of(remotes_, [](const auto& each) { return each.second->polls(); });
}

// True if a request ended.
bool Driver::poll() {
  last_poll_ = Clock::now();
  const bool progress = hixl_->can_poll_all() ? poll_together() : poll_each();
  if (progress) begin_to_spin();
  return progress;
}

bool Driver::poll_together() {
  results_.clear();
  const Outcome outcome = hixl_->poll_all(results_);
  if (!outcome.is_ok()) return poll_each();
  bool progress = false;
  for (const PollResult& result : results_) {
    if (result.status == kWaiting) continue;
    const auto id = reinterpret_cast<std::uint64_t>(result.user_data);
    const std::string failure = result.status == kCompleted ? "" : "a request FAILED" + outcome.said;
    for (const auto& [name, remote] : remotes_) remote->finished(id, failure);
    progress = true;
  }
  return progress;
}

bool Driver::poll_each() {
  bool progress = false;
  for (const auto& [name, remote] : remotes_) {
    const std::vector<Remote::Request> requests = remote->requests();
    for (const Remote::Request& request : requests) {
      if (!remote->polls()) break;
      if (request.handle == nullptr) continue;  // HIXL did not take it, and may have begun
      std::int32_t status = kWaiting;
      const Outcome outcome = hixl_->poll(request.handle, status);
      if (outcome.is_ok() && status == kWaiting) continue;
      progress = true;
      const bool completed = outcome.is_ok() && status == kCompleted;
      remote->finished(request.id, completed ? "" : "a request failed: " + (outcome.is_ok() ? "FAILED" : outcome.text()));
    }
  }
  return progress;
}

void Driver::begin_to_spin() {
  spin_until_ = Clock::now() + kSpin;
  pause_ = kShortestPause;
}

void Driver::wait() {
  const bool polling = in_flight();
  std::optional<Deadline> due;
  for (const auto& [name, remote] : remotes_) {
    if (remote->due() && (!due || remote->due()->when() < due->when())) due = remote->due();
  }
  for (const std::optional<Deadline>& own : {quiet_by_, renewing_ ? std::nullopt : renew_after_}) {
    if (own && !own->passed() && (!due || own->when() < due->when())) due = own;
  }
  if (polling) return pause_between_polls();
  MutexLock lock(mutex_);
  while (tasks_.empty() && posted_.wait_until(lock, due.value_or(Deadline::never()))) continue;
}

// The spin ends early where the thread lost its core: somebody else needs it more.
void Driver::pause_between_polls() {
  MutexLock lock(mutex_);
  if (!tasks_.empty()) return;
  const auto now = Clock::now();
  if (now < spin_until_ && now - last_poll_ < kSpin) {
    lock.unlock();
    ::sched_yield();
    return;
  }
  const Deadline next_poll = Deadline::in(pause_);
  while (tasks_.empty() && posted_.wait_until(lock, next_poll)) continue;
  pause_ = std::min(2 * pause_, kLongestPause);
}

void Driver::end_everything(const Status& why) {
  closing_ = true;
  for (const auto& [name, remote] : remotes_) {
    remote->abandon(nullptr, why);
    if (remote->is_dirty() && !remote->linked() && !renewing_) remote->engine_is_gone();  // it is finalized before anything is given back
  }
  for (const HixlTask& task : std::exchange(deferred_, {})) task(why);
}

bool Driver::stop(Deadline deadline, const Task& last) {
  const auto idle = std::make_shared<std::promise<void>>();
  std::future<void> all_idle = idle->get_future();
  post([this, idle] {
    end_everything(closed());
    when_idle_ = [idle] { idle->set_value(); };
  });
  const bool is_idle = all_idle.wait_until(deadline.when()) == std::future_status::ready;
  const bool let_go = connectors_.stop(deadline) && is_idle;
  {
    const MutexLock lock(mutex_);
    tasks_.push_back([this, last, let_go] {
      if (let_go) last();
      finished_ = let_go;
    });
    stopped_ = true;  // nothing comes behind the last task
  }
  posted_.notify_one();
  if (let_go) {
    thread_.join();
  } else {
    thread_.detach();
  }
  return let_go;
}

}  // namespace ray_hixl::transport::hixl
