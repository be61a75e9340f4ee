// The worker of a link: does its transfers one after another, as the link's stream would. It is the link's channel, too: what it has begun
// goes on when the stream is aborted, until the worker ends.
#pragma once

#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "hixl/mover.h"
#include "hixl/rules.h"

namespace fake_hixl {

class Worker {
 public:
  Worker(std::shared_ptr<const Path> path, const Rules& rules);
  // What is under way stops. Late bytes arrive before it returns, unless they are to come even later.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void push(std::shared_ptr<Request> request);
  // A transfer failed: what waits on the link has failed as well, but its bytes still move. The link is broken if such a status breaks it.
  void fail_link(Status status);
  // A transfer timed out: the stream is aborted, with all that waits on it.
  void abort();
  [[nodiscard]] bool is_broken();

 private:
  using Later = std::pair<Deadline, std::shared_ptr<Request>>;

  void run();
  void execute(const std::shared_ptr<Request>& request);
  void fail(const std::shared_ptr<Request>& request, Status code);
  void complete(const std::shared_ptr<Request>& request);
  // Its bytes do not move, or not now.
  void give_up(const std::shared_ptr<Request>& request);
  // Its bytes need not move any more.
  [[nodiscard]] bool is_over(const Request& request) const;
  // False if the request need not be done any more.
  bool pause(const Request& request, std::chrono::microseconds time);
  void deliver_later(const std::shared_ptr<Request>& request);
  void deliver_due(Deadline now);
  void deliver_rest();
  [[nodiscard]] Deadline next_due() const;

  const std::shared_ptr<const Path> path_;
  const Rules rules_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Request>> waiting_;  // guarded by mutex_, as below; the first one may be under way
  bool is_stuck_ = false;                         // the first one never ends
  bool is_broken_ = false;
  std::atomic<bool> is_stopping_{false};  // written under mutex_
  std::list<Later> late_;                 // the thread's own
  std::thread thread_;
};

}  // namespace fake_hixl
