#include "hixl/worker.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "hixl/counters.h"

namespace fake_hixl {
namespace {

constexpr int kExitCode = 88;
constexpr std::size_t kEverything = ~std::size_t{0};

[[noreturn]] void die(const Path& path, const Request& request) {
  (void)move(path, request, size_of(request) / 2, [] { return false; });
  std::fprintf(stderr, "FAKE HIXL: the process ends in the middle of a transfer (FAKE_HIXL_DIE_AT)\n");
  std::fflush(stderr);
  ::_exit(kExitCode);
}

// The real worker of late bytes is the network: nobody waits for it.
void deliver_after_disconnect(std::shared_ptr<const Path> path, Deadline due, std::shared_ptr<Request> request) {
  std::thread([path = std::move(path), due, request = std::move(request)] {
    std::this_thread::sleep_until(due);
    move_late(*path, *request);
  }).detach();
}

}  // namespace

Worker::Worker(std::shared_ptr<const Path> path, const Rules& rules) : path_(std::move(path)), rules_(rules) {
  thread_ = std::thread([this] { run(); });
}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Worker::push(std::shared_ptr<Request> request) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back(std::move(request));
  changed_.notify_all();
}

bool Worker::is_broken() {
  const std::lock_guard lock(mutex_);
  return is_broken_;
}

void Worker::fail_link(Status status) {
  if (!breaks_link(rules_, status)) return;
  const std::lock_guard lock(mutex_);
  is_broken_ = true;
  for (const auto& request : waiting_) request->finish(Request::State::kFailed, hixl::kSuccess);
}

void Worker::abort() {
  const std::lock_guard lock(mutex_);
  is_broken_ = rules_.latches;
  is_stuck_ = false;
  for (const auto& request : waiting_) {
    request->abandon();
    request->finish(Request::State::kFailed, hixl::kSuccess);
  }
  changed_.notify_all();
}

void Worker::run() {
  std::unique_lock lock(mutex_);
  while (!is_stopping_) {
    if (waiting_.empty() || is_stuck_) {
      if (late_.empty()) {
        changed_.wait(lock);
      } else {
        changed_.wait_until(lock, next_due());
      }
    } else {
      const std::shared_ptr<Request> request = waiting_.front();
      lock.unlock();
      execute(request);
      lock.lock();
      if (!is_stuck_) waiting_.pop_front();
    }
    lock.unlock();
    deliver_due(std::chrono::steady_clock::now());
    lock.lock();
  }
  for (const auto& request : waiting_) deliver_later(request);
  lock.unlock();
  deliver_rest();
}

void Worker::execute(const std::shared_ptr<Request>& request) {
  const Fate& fate = request->fate();
  if (request->lease() != nullptr && !request->lease()->notify().wait(request)) return deliver_later(request);
  count_launch();
  if (!pause(*request, fate.delay)) return give_up(request);
  if (fate.dies) die(*path_, *request);
  if (fate.never_ends) {
    give_up(request);
    const std::lock_guard lock(mutex_);
    is_stuck_ = !request->is_abandoned();
    return;
  }
  if (fate.fails) {
    deliver_later(request);
    return fail(request, fate.poll);
  }
  if (fate.drops_link) path_->peer->hang_up();
  switch (move(*path_, *request, fate.is_short ? size_of(*request) / 2 : kEverything, [&] { return is_over(*request); })) {
    case Moved::kStopped: return give_up(request);
    case Moved::kPeerGone:
      if (request->state() == Request::State::kWaiting) (void)pause(*request, retry_window());
      return fail(request, hixl::kSuccess);
    case Moved::kUnregistered: return fail(request, hixl::kSuccess);
    case Moved::kAll: break;
  }
  if (fate.is_short) {
    deliver_later(request);
    return fail(request, hixl::kSuccess);
  }
  if (fate.garbles) garble(*path_, *request);
  complete(request);
}

// Who waits is told by the slot's notify, which may be told of another request's end.
void Worker::complete(const std::shared_ptr<Request>& request) {
  if (request->lease() != nullptr) return request->lease()->notify().record(*request);
  request->finish(Request::State::kCompleted, hixl::kSuccess);
}

void Worker::give_up(const std::shared_ptr<Request>& request) {
  if (request->lease() != nullptr) request->lease()->notify().cancel(*request);
  deliver_later(request);
}

bool Worker::is_over(const Request& request) const {
  const bool goes_on = request.lease() != nullptr;
  return is_stopping_ || (request.is_abandoned() && !goes_on);
}

void Worker::fail(const std::shared_ptr<Request>& request, Status code) {
  // The link first: who sees the failure finds the link broken.
  const Status status = code == hixl::kSuccess ? hixl::kFailed : code;
  if (breaks_link(rules_, status)) {
    const std::lock_guard lock(mutex_);
    is_broken_ = true;
  }
  if (request->lease() != nullptr) request->lease()->notify().cancel(*request);
  request->finish(Request::State::kFailed, code);
  fail_link(status);
}

bool Worker::pause(const Request& request, std::chrono::microseconds time) {
  const auto is_done = [&] { return is_over(request); };
  if (time.count() == 0) return !is_done();
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, time, is_done);
}

void Worker::deliver_later(const std::shared_ptr<Request>& request) {
  const bool is_due = std::ranges::find(late_, request, &Later::second) != late_.end();
  if (!request->fate().late || is_due || request->state() == Request::State::kCompleted) return;
  late_.emplace_back(std::chrono::steady_clock::now() + *request->fate().late, request);
}

Deadline Worker::next_due() const { return std::ranges::min_element(late_, {}, &Later::first)->first; }

void Worker::deliver_due(Deadline now) {
  for (auto later = late_.begin(); later != late_.end();) {
    if (later->first > now) {
      ++later;
      continue;
    }
    move_late(*path_, *later->second);
    later = late_.erase(later);
  }
}

void Worker::deliver_rest() {
  for (const auto& [due, request] : late_) {
    if (request->fate().late_past_disconnect) {
      deliver_after_disconnect(path_, due, request);
    } else {
      move_late(*path_, *request);
    }
  }
}

}  // namespace fake_hixl
