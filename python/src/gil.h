// Giving the GIL up and taking it, also while Python ends: then Python (before 3.14) kills every thread that asks for the GIL, in the
// middle of C++, which ends the process with an abort. Here nobody asks any more once Python's exit functions ran, and NPU memory is no
// longer given back, since CANN's runtime may end before tensors do.
#pragma once

#include <Python.h>

namespace ray_hixl::python {

// Gives the GIL up for as long as it lives. A thread that would take it back while Python ends stands still instead; the process ends
// without it. The thread that ends Python goes on as ever.
class GilRelease {
 public:
  GilRelease();
  ~GilRelease();
  GilRelease(const GilRelease&) = delete;
  GilRelease& operator=(const GilRelease&) = delete;

 private:
  PyThreadState* state_;
};

// Takes the GIL on any thread for as long as it lives, unless Python is ending.
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

// For a call that fails because engines were closed at the end of the process, with the GIL: does not come back but in the thread that ends
// Python. Daemon threads would print errors meanwhile.
void stand_still_at_the_end();

// The exit function, with the GIL: closes engines, while what they keep can still be dropped; from then on nobody takes the GIL any more,
// and NPU memory is not given back. Only the first call does anything.
void end_of_process();

// Registers end_of_process() with Python's exit functions. Once, with the GIL.
void watch_for_exit();

}  // namespace ray_hixl::python
