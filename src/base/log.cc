#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>

#include "base/fork.h"
#include "base/mutex.h"

namespace ray_hixl {
namespace {

// Used under a NoFork, so that a forked child finds the lock free and the sink whole.
struct Hook {
  Mutex mutex;
  std::shared_ptr<const LogSink> sink RAY_HIXL_GUARDED_BY(mutex);  // called without it
};

// Never destroyed: engine threads may log while the process exits.
Hook& hook() {
  static Hook& instance = *new Hook;
  return instance;
}

std::atomic<LogLevel> lowest_level{LogLevel::kWarning};

void write_to_stderr(LogLevel level, std::string_view message) {
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  const std::string line = std::string("ray-hixl ") + kNames[static_cast<int>(level)] + ": " + std::string(message) + "\n";
  std::fputs(line.c_str(), stderr);
}

}  // namespace

void set_log_sink(LogSink sink) {
  auto next = sink ? std::make_shared<const LogSink>(std::move(sink)) : nullptr;  // then the one before, whose end may log
  const NoFork no_fork;
  const MutexLock lock(hook().mutex);
  hook().sink.swap(next);
}

void set_log_level(LogLevel lowest) { lowest_level = lowest; }

void log(LogLevel level, std::string_view message) {
  if (level < lowest_level) return;
  std::shared_ptr<const LogSink> sink;
  {
    const NoFork no_fork;
    const MutexLock lock(hook().mutex);
    sink = hook().sink;
  }
  if (sink) {
    (*sink)(level, message);
  } else {
    write_to_stderr(level, message);
  }
}

}  // namespace ray_hixl
