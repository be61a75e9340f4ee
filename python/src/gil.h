// Giving the GIL up and taking it, also while Python ends. Then Python kills every thread that takes the GIL (before 3.14, which has it
// stand still): pthread_exit in the middle of C++, which ends the process with an abort. Here such a thread stands still, and those of
// engines do not ask any more. NPU memory is no longer given back then, since CANN's runtime may end before tensors do.
#pragma once

#include <Python.h>
#include <cxxabi.h>

namespace ray_hixl::python {

// Does not come back; the process ends without this thread.
[[noreturn]] void stand_still();

// Runs what takes the GIL, or Python's code, which may give it up and take it. Where Python kills the thread for it, it stands still.
// pthread_exit unwinds the stack like an exception, and would meet a noexcept, which ends the process, or drop references without the GIL:
// so `call` has nothing with a destructor. It would also meet the exception of a catch block that it is in, which ends the process, too:
// this is not called in any. common.h has what looks up and calls in this way. Source:
// https://docs.python.org/3/c-api/init.html#c.PyEval_RestoreThread
template <class Call>
void unless_python_kills(Call call) {
  try {
    call();
  } catch (const abi::__forced_unwind&) {
    stand_still();
  }
}

// Gives the GIL up for as long as it lives.
class GilRelease {
 public:
  GilRelease();
  ~GilRelease();
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

// Takes the GIL on a thread that has none of Python's states for as long as it lives, unless Python is ending.
class GilAcquire {
 public:
  GilAcquire();
  ~GilAcquire();
  GilAcquire(const GilAcquire&) = delete;
  GilAcquire& operator=(const GilAcquire&) = delete;
  [[nodiscard]] bool acquired() const { return acquired_; }

 private:
  bool acquired_;
  PyGILState_STATE state_{};
};

// Python does not end while one lives, for some seconds: around what calls code of others that may give the GIL up where no C++ of the
// binding could stand still for it, like torch's. With the GIL.
class BeforeTheEnd {
 public:
  BeforeTheEnd();
  ~BeforeTheEnd();
  BeforeTheEnd(const BeforeTheEnd&) = delete;
  BeforeTheEnd& operator=(const BeforeTheEnd&) = delete;
  // False once Python ends, and does not wait any more, except for the thread that ends it: such code must not be called.
  [[nodiscard]] bool is_before() const { return is_before_; }

 private:
  bool is_counted_;
  bool is_before_;
};

// The exit function, with the GIL: closes engines, while what they keep can still be dropped, and waits for each GilAcquire and
// BeforeTheEnd there is; from then on nobody takes the GIL any more, and NPU memory is not given back. Only the first call does anything.
void end_of_process();

// Registers end_of_process() with Python's exit functions. Once, with the GIL.
void watch_for_exit();

}  // namespace ray_hixl::python
