#include "gil.h"

#include <nanobind/nanobind.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "base/fork.h"
#include "engine/at_exit.h"
#include "transport/hixl/device.h"

namespace ray_hixl::python {
namespace {

namespace nb = nanobind;

constexpr std::chrono::seconds kLongestWait{5};  // for those who have the GIL in this moment: they only drop objects

// The end of Python has two steps. First its other threads stand still where they come back to it, while engines are closed, whose reapers
// drop what they keep. Then nobody takes the GIL any more.
std::atomic<bool> leaving{false};
std::atomic<bool> ended{false};
std::thread::id last_thread;              // the one that ends Python; set before `leaving`
std::atomic<std::uint32_t> takers{0};     // threads that take the GIL now or, in GilAcquire, have it
thread_local std::uint32_t acquires = 0;  // GilAcquires of this thread

// A forked child has no other threads, though some may have been counted, and an end of its own.
const bool registered = on_fork(nullptr, nullptr, [] {
  takers.store(0);
  leaving.store(false);
  ended.store(false);
});

// Announces a taker. False if it must not take the GIL any more.
bool enter(const std::atomic<bool>& too_late) {
  takers.fetch_add(1);
  if (!too_late.load()) return true;
  takers.fetch_sub(1);
  return false;
}

void leave() { takers.fetch_sub(1); }

bool is_last_thread() { return std::this_thread::get_id() == last_thread; }

[[noreturn]] void stand_still() {
  while (true) ::pause();
}

void wait_for_takers() {
  const auto end = std::chrono::steady_clock::now() + kLongestWait;
  while (takers.load() != 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::microseconds(100));
}

}  // namespace

GilRelease::GilRelease() : state_(PyEval_SaveThread()) {}

GilRelease::~GilRelease() {
  if (acquires > 0) {  // in the destructor of an object that is dropped: counted already
    PyEval_RestoreThread(state_);
    return;
  }
  const bool entered = enter(leaving);
  if (!entered && !is_last_thread()) stand_still();
  PyEval_RestoreThread(state_);
  if (entered) leave();
}

GilAcquire::GilAcquire() : acquired_(enter(ended)) {
  if (!acquired_) return;
  state_ = PyGILState_Ensure();
  ++acquires;
}

GilAcquire::~GilAcquire() {
  if (!acquired_) return;
  --acquires;
  PyGILState_Release(state_);
  leave();
}

void stand_still_at_the_end() {
  if (!leaving.load() || acquires > 0 || is_last_thread()) return;
  PyEval_SaveThread();
  stand_still();
}

void end_of_process() {
  if (leaving.load()) return;
  last_thread = std::this_thread::get_id();
  leaving.store(true);
  PyThreadState* const state = PyEval_SaveThread();
  end_engines();
  ended.store(true);
  wait_for_takers();
  PyEval_RestoreThread(state);
  transport::hixl::leave_memory();
}

void watch_for_exit() { nb::module_::import_("atexit").attr("register")(nb::cpp_function(&end_of_process)); }

}  // namespace ray_hixl::python
