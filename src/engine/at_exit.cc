#include "engine/at_exit.h"

#include <algorithm>
#include <cstdlib>
#include <list>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "base/fork.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "control/auth.h"
#include "engine/engine_impl.h"

namespace ray_hixl {
namespace {

constexpr std::chrono::seconds kLongestEnd{30};

struct Closer {
  std::thread thread;
  bool done = false;
};

struct Engines {
  Mutex mutex;
  Condition changed;
  bool ended RAY_HIXL_GUARDED_BY(mutex) = false;
  bool end_at_exit RAY_HIXL_GUARDED_BY(mutex) = false;
  // Null while it is started. One that has expired was let go, and is being closed by a closer.
  std::map<const EngineImpl*, std::weak_ptr<EngineImpl>> running RAY_HIXL_GUARDED_BY(mutex);
  std::list<Closer> closers RAY_HIXL_GUARDED_BY(mutex);

  // Nothing is started or closed just now.
  [[nodiscard]] bool is_quiet() const RAY_HIXL_REQUIRES(mutex) {
    return std::ranges::all_of(closers, &Closer::done) &&
           std::ranges::none_of(running, [](const auto& entry) { return entry.second.expired(); });
  }
  // Those that are done, to be joined without the lock.
  [[nodiscard]] std::list<Closer> take_done() RAY_HIXL_REQUIRES(mutex) {
    std::list<Closer> done;
    for (auto closer = closers.begin(); closer != closers.end();) {
      const auto next = std::next(closer);
      if (closer->done) done.splice(done.end(), closers, closer);
      closer = next;
    }
    return done;
  }
};

[[gnu::init_priority(101)]] ProcessWide<Engines> process_wide;
const bool kNewInChild = on_fork(nullptr, nullptr, [] { process_wide.begin_anew(); });

Engines& engines() { return *process_wide; }

Status ending() {
  return Status(Code::kClosed, "the process is ending, and its engines are closed: nothing is published or fetched any more");
}

void join(std::list<Closer> closers) {
  for (Closer& closer : closers) closer.thread.join();
}

}  // namespace

Running::Running(const EngineImpl& engine) : engine_(engine) {
  const MutexLock lock(engines().mutex);
  engines().running.try_emplace(&engine_);
}

Running::~Running() {
  const MutexLock lock(engines().mutex);
  engines().running.erase(&engine_);
  engines().changed.notify_all();
}

Status Running::started(const std::shared_ptr<EngineImpl>& engine) const {
  // Exit functions run in the reverse order of their registration: libcrypto's has to be there first.
  control::load_crypto();
  const MutexLock lock(engines().mutex);
  if (engines().ended) return ending();
  if (!engines().end_at_exit) {
    if (std::atexit(end_engines) != 0) return Status(Code::kOutOfMemory, "there is no memory for an exit function");
    engines().end_at_exit = true;
  }
  engines().running[&engine_] = engine;
  return Status::ok();
}

bool close_in_background(std::function<void()> closing) {
  // Starts under the lock, too, so that the end of the process sees the thread, or still waits for its engine.
  MutexLock lock(engines().mutex);
  std::list<Closer> done = engines().take_done();
  Closer& closer = engines().closers.emplace_back();
  Result<std::thread> thread = start_thread("hixl-close", [closing = std::move(closing), &closer]() mutable {
    closing();
    closing = nullptr;  // which may hold the engine
    const MutexLock end(engines().mutex);
    closer.done = true;
    engines().changed.notify_all();
  });
  const bool started = thread.is_ok();
  if (started) {
    closer.thread = *std::move(thread);
  } else {
    engines().closers.pop_back();
  }
  lock.unlock();
  join(std::move(done));
  return started;
}

void end_engines() {
  if (on_thread_of_an_engine()) return;  // it would wait for itself
  const Deadline end = Deadline::in(kLongestEnd);
  std::vector<std::shared_ptr<EngineImpl>> open;
  {
    const MutexLock lock(engines().mutex);
    if (std::exchange(engines().ended, true)) return;
    for (const auto& [address, engine] : engines().running) {
      if (auto held = engine.lock()) open.push_back(std::move(held));
    }
  }
  // Side by side, since each may take a while: a peer's device that does not answer, an owner's destructor.
  for (auto& engine : open) {
    if (!close_in_background([engine] { engine->close(); })) engine->close();
    engine = nullptr;  // without the lock: it may be the last handle
  }
  MutexLock lock(engines().mutex);
  while (!engines().is_quiet() && engines().changed.wait_until(lock, end)) continue;
  std::list<Closer> done = engines().take_done();
  lock.unlock();
  join(std::move(done));
}

Status check_not_ending() {
  const MutexLock lock(engines().mutex);
  return engines().ended ? ending() : Status::ok();
}

void end_engines_before_what_is_loaded() { (void)std::atexit(end_engines); }  // without memory it runs later

}  // namespace ray_hixl
