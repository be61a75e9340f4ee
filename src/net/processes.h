// Processes: the watch over other processes of this machine. There is one watch for each process, whoever asks for it.
//
// A peer's process may touch memory of ours for longer than a connection to it lives: it has mapped it, or is in the middle of a copy. Who
// has to know when that is over holds the watch, and need not hold the connection.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "base/fd.h"
#include "net/identity.h"
#include "net/loop.h"
#include "ray_hixl/status.h"

namespace ray_hixl::net {

// One process, known by its pidfd: never mistaken for another one that got its pid later. The last pointer to it may die on any thread.
// REQUIRES: the loop outlives it.
class WatchedProcess {
 public:
  // Ends the subscription when it dies. Loop thread.
  using Subscription = std::shared_ptr<const void>;

  // Loop thread. Made and started by Processes.
  WatchedProcess(Loop& loop, std::uint32_t pid, ProcessWatch watch);
  [[nodiscard]] Status start();
  ~WatchedProcess();
  WatchedProcess(const WatchedProcess&) = delete;
  WatchedProcess& operator=(const WatchedProcess&) = delete;

  [[nodiscard]] std::uint32_t pid() const { return pid_; }  // as this process sees it
  [[nodiscard]] bool alive() const;                         // any thread; one system call
  // Loop thread. `died` runs once, from the loop, when the process ended; not if the subscription died before.
  [[nodiscard]] Subscription on_death(std::function<void()> died);

 private:
  struct State;

  Loop& loop_;
  const std::uint32_t pid_;
  const std::shared_ptr<State> state_;  // shared with the loop, on whose thread it ends
};

class Processes {
 public:
  explicit Processes(Loop& loop) : loop_(loop) {}
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  // Loop thread, both. kPeerGone if the process has ended; kNotAvailable where the kernel has no pidfds or shows no such process;
  // kOutOfMemory where its end would not be heard.
  [[nodiscard]] Result<std::shared_ptr<WatchedProcess>> watch(std::uint32_t pid);
  // The process at the other end of a connected Unix socket, as the kernel knows it: the one that connected, or that listens.
  [[nodiscard]] Result<std::shared_ptr<WatchedProcess>> watch_peer(const Fd& socket);

 private:
  [[nodiscard]] Result<std::shared_ptr<WatchedProcess>> share(std::uint32_t pid, Result<ProcessWatch> watch);

  Loop& loop_;
  std::map<std::uint32_t, std::weak_ptr<WatchedProcess>> known_;  // loop thread only; by pid
};

}  // namespace ray_hixl::net
