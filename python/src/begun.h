// Begun: the transfers that one block of Python begins, and that end before it raises.
//
// An interrupt (Ctrl-C) is raised between two bytecodes: after the call that begins a transfer and before its handle is kept, or on the
// way to what would cancel it. So the call that begins a transfer also notes it here, and one call ends them all; neither runs a bytecode.
#pragma once

#include <string>
#include <vector>

#include "common.h"

namespace ray_hixl::python {

// A context manager, for one thread. Needs the GIL throughout.
class Begun {
 public:
  // `seconds`: how long all writes to callers' memory may take to stop. `conclude(error, names)` gives the error that is raised in place of
  // `error`, where to the memory of `names` something may still write.
  Begun(double seconds, nb::object conclude) : seconds_(seconds), conclude_(std::move(conclude)) {}
  // The innermost block that this thread is in, or null.
  [[nodiscard]] static Begun* current();

  // `transfer` has cancel() and stopped(seconds). `writes`: to memory of the caller, which has to be waited for.
  void add(std::string name, nb::object transfer, bool writes);
  void enter();
  // `error`: what it is left by, for end(), or None. It lets go of everything: Python's collector does not see what it holds.
  void leave(nb::object error);
  // Cancels everything, waits until nothing writes to callers' memory any more, and raises what `error` is concluded to be unless that is
  // `error` itself. Interrupts meanwhile are raised in its place, when all of this is done. Once.
  void end(nb::object error);

 private:
  struct Part {
    std::string name;
    nb::object transfer;
    bool writes;
  };
  [[nodiscard]] std::vector<std::string> stop(nb::object& error);

  double seconds_;
  nb::object conclude_;
  std::vector<Part> parts_;
};

// Asks a transfer to end early when it is dropped itself.
class CancelledWhenDropped {
 public:
  explicit CancelledWhenDropped(Transfer transfer) : transfer_(std::move(transfer)) {}
  ~CancelledWhenDropped() {
    if (!transfer_.done()) transfer_.cancel();
  }
  CancelledWhenDropped(const CancelledWhenDropped&) = delete;
  CancelledWhenDropped& operator=(const CancelledWhenDropped&) = delete;

 private:
  Transfer transfer_;
};

}  // namespace ray_hixl::python
