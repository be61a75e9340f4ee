// ConnectAsync and DisconnectAsync: a few threads that do what was asked for, in order for each remote. Any thread.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "hixl/errors.h"

namespace fake_hixl {

class ConnectPool {
 public:
  using Statuses = std::map<std::string, hixl::AsyncConnectStatus>;
  struct Verbs {
    std::function<Status(const std::string& remote, int timeout_ms)> connect;
    std::function<Status(const std::string& remote)> disconnect;
  };

  ConnectPool(Verbs verbs, long threads, long capacity) : verbs_(std::move(verbs)), most_threads_(threads), capacity_(capacity) {}
  // Drops what has not begun.
  ~ConnectPool();
  ConnectPool(const ConnectPool&) = delete;
  ConnectPool& operator=(const ConnectPool&) = delete;

  [[nodiscard]] Status connect(const std::string& remote, int timeout_ms) { return push({remote, true, timeout_ms}); }
  [[nodiscard]] Status disconnect(const std::string& remote) { return push({remote, false, 0}); }
  // Remotes that were never heard of are not connected.
  [[nodiscard]] hixl::AsyncConnectStatus status(const std::string& remote);
  [[nodiscard]] Statuses statuses();
  // A Disconnect of the ordinary kind ends the record of a remote.
  void forget(const std::string& remote);

 private:
  struct Task {
    std::string remote;
    bool connects = false;
    int timeout_ms = 0;
  };

  [[nodiscard]] Status push(Task task);
  void run();
  void execute(const Task& task);

  const Verbs verbs_;
  const long most_threads_;
  const long capacity_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;  // guarded by mutex_, as below
  std::set<std::string> busy_;
  Statuses statuses_;
  bool is_stopping_ = false;
  std::vector<std::thread> threads_;  // made with the first task
};

}  // namespace fake_hixl
