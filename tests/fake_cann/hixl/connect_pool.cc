#include "hixl/connect_pool.h"

#include <algorithm>

namespace fake_hixl {

using hixl::AsyncConnectStatus;

ConnectPool::~ConnectPool() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    changed_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

Status ConnectPool::push(Task task) {
  const std::lock_guard lock(mutex_);
  if (static_cast<long>(tasks_.size()) >= capacity_) return fail(hixl::kResourceExhausted, "connect_pool.task_queue_capacity is reached");
  while (static_cast<long>(threads_.size()) < most_threads_) threads_.emplace_back([this] { run(); });
  statuses_[task.remote] = task.connects ? AsyncConnectStatus::kConnectPending : AsyncConnectStatus::kDisconnectPending;
  tasks_.push_back(std::move(task));
  changed_.notify_all();
  return hixl::kSuccess;
}

void ConnectPool::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    std::deque<Task>::iterator next;
    changed_.wait(lock, [&] {
      next = std::ranges::find_if(tasks_, [this](const Task& task) { return !busy_.contains(task.remote); });
      return is_stopping_ || next != tasks_.end();
    });
    if (is_stopping_) return;
    const Task task = std::move(*next);
    tasks_.erase(next);
    busy_.insert(task.remote);
    statuses_[task.remote] = task.connects ? AsyncConnectStatus::kConnecting : AsyncConnectStatus::kDisconnecting;
    lock.unlock();
    execute(task);
    lock.lock();
    busy_.erase(task.remote);
    changed_.notify_all();
  }
}

// What was asked for meanwhile is what counts then.
void ConnectPool::execute(const Task& task) {
  const Status status = task.connects ? verbs_.connect(task.remote, task.timeout_ms) : verbs_.disconnect(task.remote);
  const std::lock_guard lock(mutex_);
  if (std::ranges::find(tasks_, task.remote, &Task::remote) != tasks_.end()) return;
  if (!task.connects) {
    statuses_.erase(task.remote);
  } else if (status == hixl::kSuccess || status == hixl::kAlreadyConnected) {
    statuses_[task.remote] = AsyncConnectStatus::kConnected;
  } else {
    statuses_[task.remote] = AsyncConnectStatus::kConnectFailed;
  }
}

AsyncConnectStatus ConnectPool::status(const std::string& remote) {
  const std::lock_guard lock(mutex_);
  const auto found = statuses_.find(remote);
  return found == statuses_.end() ? AsyncConnectStatus::kNotConnect : found->second;
}

ConnectPool::Statuses ConnectPool::statuses() {
  const std::lock_guard lock(mutex_);
  return statuses_;
}

void ConnectPool::forget(const std::string& remote) {
  const std::lock_guard lock(mutex_);
  const bool is_planned = busy_.contains(remote) || std::ranges::find(tasks_, remote, &Task::remote) != tasks_.end();
  if (!is_planned) statuses_.erase(remote);
}

}  // namespace fake_hixl
