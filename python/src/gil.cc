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

std::atomic<std::uint32_t> takers{0};  // threads that take the GIL now or, in GilAcquire, have it
std::atomic<bool> ending{false};
std::thread::id last_thread;  // the one that ends Python; set before `ending`
// A forked child has no other threads, though some may have been counted.
const bool registered = on_fork(nullptr, nullptr, [] { takers.store(0); });

// Announces a taker. False if it must not take the GIL any more.
bool enter() {
  takers.fetch_add(1);
  if (!ending.load()) return true;
  takers.fetch_sub(1);
  return false;
}

void leave() { takers.fetch_sub(1); }

[[noreturn]] void stand_still() {
  while (true) ::pause();
}

// False if some were still there in the end. With the GIL, which they get meanwhile.
bool wait_for_takers() {
  PyThreadState* const state = PyEval_SaveThread();
  const auto end = std::chrono::steady_clock::now() + kLongestWait;
  while (takers.load() != 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(std::chrono::microseconds(100));
  PyEval_RestoreThread(state);
  return takers.load() == 0;
}

}  // namespace

GilRelease::GilRelease() : state_(PyEval_SaveThread()) {}

GilRelease::~GilRelease() {
  const bool entered = enter();
  if (!entered && std::this_thread::get_id() != last_thread) stand_still();
  PyEval_RestoreThread(state_);
  if (entered) leave();
}

GilAcquire::GilAcquire() : acquired_(enter()) {
  if (acquired_) state_ = PyGILState_Ensure();
}

GilAcquire::~GilAcquire() {
  if (!acquired_) return;
  PyGILState_Release(state_);
  leave();
}

void end_of_process() {
  last_thread = std::this_thread::get_id();
  ending.store(true);
  // With the GIL: daemon threads of Python would find closed engines, and print so while the process ends. A thread that takes the GIL
  // even now would be waited for for ever; then the exit function of C closes them.
  if (wait_for_takers()) end_engines();
  transport::hixl::leave_memory();
}

void watch_for_exit() { nb::module_::import_("atexit").attr("register")(nb::cpp_function(&end_of_process)); }

}  // namespace ray_hixl::python
