#include "transport/transfer_state.h"

#include <algorithm>
#include <string>
#include <utility>

namespace ray_hixl::transport {

void TransferState::request_stop(const Status& reason) {
  if (process_.in_child()) return;
  std::function<void()> hook;
  {
    const MutexLock lock(mutex_);
    if (done_ || stop_) return;
    reason_ = reason;
    stop_.store(true, std::memory_order_release);
    hook = std::move(stop_hook_);
    stop_hook_ = nullptr;
  }
  if (hook) hook();
}

bool TransferState::stopping() const { return stop_.load(std::memory_order_acquire) || deadline_.passed(); }

Status TransferState::stop_reason() const {
  if (process_.in_child()) return ProcessGuard::closed();
  const MutexLock lock(mutex_);
  if (stop_) return reason_;
  return Status(Code::kTransferTimeout, "the deadline passed; give the transfer more time if the peer is only slow");
}

void TransferState::set_stop_hook(std::function<void()> hook) {
  if (process_.in_child()) return;
  {
    const MutexLock lock(mutex_);
    if (done_) return;
    if (!stop_) {
      stop_hook_.swap(hook);
      return;  // the replaced hook dies after the lock
    }
  }
  hook();
}

void TransferState::set_waiting(Status why) {
  if (process_.in_child()) return;
  const MutexLock lock(mutex_);
  waiting_ = std::move(why);
}

Status TransferState::waiting() const {
  if (process_.in_child()) return ProcessGuard::closed();
  const MutexLock lock(mutex_);
  return waiting_;
}

bool TransferState::finish(Status result) {
  if (process_.in_child()) return false;
  std::function<void()> hook;
  std::vector<Ending> callbacks;
  {
    const MutexLock lock(mutex_);
    if (ending_) return false;
    ending_ = true;
  }
  reach(Milestone::kEnded);
  if (settle_) result = settle_(std::move(result));
  {
    const MutexLock lock(mutex_);
    result_ = std::move(result);
    settled_ = true;
    callbacks.swap(callbacks_);
  }
  for (const Ending& callback : callbacks) callback(result_);
  {
    const MutexLock lock(mutex_);
    hook = std::move(stop_hook_);
    stop_hook_ = nullptr;
    done_.store(true, std::memory_order_release);
  }
  ended_.notify_all();  // without the lock, which who wakes takes first
  return true;
}

bool TransferState::wait(std::optional<std::chrono::nanoseconds> timeout) {
  if (done()) return true;
  const Deadline until = timeout ? Deadline::in(std::max(*timeout, std::chrono::nanoseconds::zero())) : Deadline::never();
  MutexLock lock(mutex_);
  while (!done_.load(std::memory_order_relaxed)) {
    if (!ended_.wait_until(lock, until)) return done_.load(std::memory_order_relaxed);
  }
  return true;
}

Status TransferState::result() const {
  if (done_.load(std::memory_order_acquire)) return result_;
  return process_.in_child() ? ProcessGuard::closed() : Status::ok();
}

void TransferState::before_done(Ending callback) {
  if (process_.in_child()) return callback(result());
  {
    const MutexLock lock(mutex_);
    if (!settled_) {
      callbacks_.push_back(std::move(callback));
      return;
    }
  }
  callback(result_);
}

TransferTimes TransferState::times() const {
  const auto at = [this](Milestone milestone, Clock::time_point otherwise) {
    const Clock::time_point reached = reached_[static_cast<std::size_t>(milestone)].load(std::memory_order_relaxed);
    return reached == Clock::time_point{} ? otherwise : reached;
  };
  TransferTimes times;
  times.begun = begun_;
  times.linked = at(Milestone::kLinked, begun_);
  times.moving = at(Milestone::kMoving, times.linked);
  times.ended = at(Milestone::kEnded, times.moving);
  times.moved = std::min(at(Milestone::kMoved, times.ended), times.ended);
  return times;
}

void TransferState::add_bytes(control::TransportKind kind, std::uint64_t bytes) {
  bytes_[static_cast<std::size_t>(kind)].fetch_add(bytes, std::memory_order_relaxed);
}

std::vector<TransportBytes> TransferState::bytes_by_transport() const {
  std::vector<TransportBytes> rows;
  for (std::size_t kind = 0; kind < bytes_.size(); ++kind) {
    const std::uint64_t bytes = bytes_[kind].load(std::memory_order_relaxed);
    if (bytes > 0) rows.push_back({std::string(control::kind_name(static_cast<control::TransportKind>(kind))), bytes});
  }
  return rows;
}

}  // namespace ray_hixl::transport
