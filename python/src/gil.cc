#include "gil.h"

#include <nanobind/nanobind.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "base/fork.h"
#include "device/device.h"
#include "engine/at_exit.h"

namespace ray_hixl::python {
namespace {

namespace nb = nanobind;

constexpr std::chrono::seconds kLongestWait{5};  // for those who drop objects, read tensors of callers or make some in this moment

// The end of Python has two steps. First engines are closed, whose reapers drop what they keep. Then no thread of theirs takes the GIL.
std::atomic<bool> leaving{false};
std::atomic<bool> ended{false};
std::atomic<std::uint32_t> takers{0};     // GilAcquires that take the GIL now or have it, and each BeforeTheEnd
thread_local std::uint32_t acquires = 0;  // of this thread
thread_local bool ends_python = false;    // this thread

// A forked child has no other threads, and an end of its own.
const bool registered = on_fork(nullptr, nullptr, [] {
  takers.store(acquires);
  ends_python = false;
  leaving.store(false);
  ended.store(false);
});

// Announces a taker. False if it must not take the GIL any more.
bool enter() {
  takers.fetch_add(1);
  if (!ended.load()) return true;
  takers.fetch_sub(1);
  return false;
}

void leave() { takers.fetch_sub(1); }

void wait_for_takers() {
  const auto end = std::chrono::steady_clock::now() + kLongestWait;
  while (takers.load() != 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::microseconds(100));
}

}  // namespace

void stand_still() {
  while (true) ::pause();
}

GilRelease::GilRelease() : state_(PyEval_SaveThread()) {}

GilRelease::~GilRelease() {
  unless_python_kills([&] { PyEval_RestoreThread(state_); });
}

GilAcquire::GilAcquire() : acquired_(enter()) {
  if (!acquired_) return;
  unless_python_kills([&] { state_ = PyGILState_Ensure(); });
  ++acquires;
}

GilAcquire::~GilAcquire() {
  if (!acquired_) return;
  --acquires;
  unless_python_kills([&] { PyGILState_Release(state_); });
  leave();
}

BeforeTheEnd::BeforeTheEnd() : is_counted_(enter()), is_before_(is_counted_ || ends_python) {
  if (is_counted_) ++acquires;
}

BeforeTheEnd::~BeforeTheEnd() {
  if (!is_counted_) return;
  --acquires;
  leave();
}

void end_of_process() {
  if (leaving.exchange(true)) return;
  ends_python = true;
  PyThreadState* const state = PyEval_SaveThread();
  end_engines();
  ended.store(true);
  wait_for_takers();
  PyEval_RestoreThread(state);
  device::leave_memory();
}

void watch_for_exit() { nb::module_::import_("atexit").attr("register")(nb::cpp_function(&end_of_process)); }

}  // namespace ray_hixl::python
