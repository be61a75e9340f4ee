// Loop: one thread, one epoll. It owns every socket of an engine.
//
// It sleeps until a descriptor is ready, a timer is due or a task is posted; it never wakes for nothing. Methods marked "loop thread"
// assert it. Callbacks run on the loop thread with no lock held, must not block, and may call any method.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/deadline.h"
#include "ray_hixl/status.h"

namespace ray_hixl::net {

class Loop {
 public:
  using Task = std::function<void()>;
  using FdCallback = std::function<void(std::uint32_t events)>;  // EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR
  using TimerId = std::uint64_t;                                 // never 0

  [[nodiscard]] static Result<std::unique_ptr<Loop>> create(const std::string& thread_name);
  ~Loop();  // stop()
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Any thread. Runs `task` on the loop thread, in order of posting. After stop() tasks are dropped (destroyed, not run), and false
  // is returned, as in a forked child. A task posted before stop() runs.
  bool post(Task task);
  [[nodiscard]] bool on_loop() const;
  // Thread CPU time of the longest turn so far: what everybody else on this loop waited for. Any thread.
  [[nodiscard]] std::chrono::nanoseconds longest_turn() const;
  // Any thread but the loop's: runs what was posted, joins the thread. Idempotent. In a forked child it does nothing.
  void stop();

  // Loop thread. Level-triggered. One watch per fd; unwatch before the fd is closed. A callback may unwatch its own or another fd:
  // no callback of an unwatched fd runs afterwards.
  [[nodiscard]] Status watch(int fd, std::uint32_t events, FdCallback callback);
  void change(int fd, std::uint32_t events);
  void unwatch(int fd);

  // Loop thread. Runs `task` once when `deadline` passed.
  TimerId at(Deadline deadline, Task task);
  void cancel(TimerId timer);  // unknown and already run ids are ignored

 private:
  struct Impl;
  explicit Loop(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ray_hixl::net
