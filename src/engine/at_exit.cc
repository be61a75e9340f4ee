#include "engine/at_exit.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <map>
#include <new>
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
  std::shared_ptr<const std::atomic<bool>> done;
};

struct Engines {
  Mutex mutex;
  Condition changed;
  bool ended RAY_HIXL_GUARDED_BY(mutex) = false;
  // Null while it is started. One that has expired was let go, and is being closed by a closer.
  std::map<const EngineImpl*, std::weak_ptr<EngineImpl>> running RAY_HIXL_GUARDED_BY(mutex);
  std::vector<Closer> closers RAY_HIXL_GUARDED_BY(mutex);  // those that are done are joined when the next one comes
};

// Never destroyed, and made anew in a forked child, where the parent's engines have no threads and the lock may be held for ever.
alignas(Engines) std::byte place[sizeof(Engines)];
Engines* const kFirst = ::new (place) Engines;
const bool kNoneInChild = on_fork(nullptr, nullptr, [] { ::new (place) Engines; });

Engines& engines() { return *std::launder(kFirst); }

Status ending() {
  return Status(Code::kClosed, "the process is ending, and its engines are closed: nothing is published or fetched any more");
}

bool is_any_going(const Engines& all) RAY_HIXL_REQUIRES(all.mutex) {
  return std::ranges::any_of(all.running, [](const auto& entry) { return entry.second.expired(); });
}

// Exit functions run in the reverse order of their registration: libcrypto's has to be there first.
bool ends_at_exit() {
  static const bool kRegistered = [] {
    control::load_crypto();
    return std::atexit(end_engines) == 0;
  }();
  return kRegistered;
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
  if (!ends_at_exit()) return Status(Code::kOutOfMemory, "no memory for an exit function");
  const MutexLock lock(engines().mutex);
  if (engines().ended) return ending();
  engines().running[&engine_] = engine;
  return Status::ok();
}

bool close_in_background(const std::function<void()>& closing) {
  const auto done = std::make_shared<std::atomic<bool>>(false);
  Result<std::thread> thread = start_thread("hixl-close", [closing, done] {
    closing();
    done->store(true);
  });
  if (!thread.is_ok()) return false;
  const MutexLock lock(engines().mutex);
  std::erase_if(engines().closers, [](Closer& closer) {
    if (!closer.done->load()) return false;
    closer.thread.join();
    return true;
  });
  engines().closers.push_back({*std::move(thread), done});
  return true;
}

void end_engines() {
  const Deadline end = Deadline::in(kLongestEnd);
  std::vector<std::shared_ptr<EngineImpl>> open;
  MutexLock lock(engines().mutex);
  engines().ended = true;
  for (const auto& [address, engine] : engines().running) {
    if (auto held = engine.lock()) open.push_back(std::move(held));
  }
  lock.unlock();
  for (const auto& engine : open) engine->close();
  open.clear();  // without the lock: another thread may have let go of its handle meanwhile
  lock.lock();
  bool in_time = true;
  while (is_any_going(engines()) && in_time) in_time = engines().changed.wait_until(lock, end);
  if (!in_time) return;
  for (Closer& closer : std::exchange(engines().closers, {})) closer.thread.join();
}

Status check_not_ending() {
  const MutexLock lock(engines().mutex);
  return engines().ended ? ending() : Status::ok();
}

}  // namespace ray_hixl
