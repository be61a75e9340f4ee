#include "begun.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace ray_hixl::python {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kLongest{1};  // for interrupts to let one call through, beyond the time that it may take

thread_local std::vector<Begun*> blocks;  // the innermost last; each lives until it is left

// Calls until nothing interrupts it, or time is up. What interrupts is kept in `error`.
template <class Call>
void insist(nb::object& error, Clock::time_point end, Call call) {
  while (true) {
    try {
      return call();
    } catch (nb::python_error& interrupt) {
      error = nb::borrow(interrupt.value());
      if (Clock::now() > end + kLongest) return;
    }
  }
}

double seconds_until(Clock::time_point end) { return std::max(std::chrono::duration<double>(end - Clock::now()).count(), 0.0); }

}  // namespace

Begun* Begun::current() { return blocks.empty() ? nullptr : blocks.back(); }

void Begun::add(std::string name, nb::object transfer, bool writes) { parts_.push_back({std::move(name), std::move(transfer), writes}); }

void Begun::enter() { blocks.push_back(this); }

void Begun::leave(nb::object error) {
  std::erase(blocks, this);
  if (!error.is_none()) return end(std::move(error));
  parts_.clear();
  conclude_.reset();
}

std::vector<std::string> Begun::stop(nb::object& error) {
  const std::vector<Part> parts = std::exchange(parts_, {});
  const auto end = Clock::now() + to_duration(seconds_);
  for (const Part& part : parts) insist(error, end, [&] { call_python(attribute_of(part.transfer, "cancel"), nb::make_tuple()); });
  std::vector<std::string> writing;
  for (const Part& part : parts) {
    bool has_stopped = !part.writes;
    const auto ask = [&] {
      has_stopped = nb::cast<bool>(call_python(attribute_of(part.transfer, "stopped"), nb::make_tuple(seconds_until(end))));
    };
    if (part.writes) insist(error, end, ask);
    if (!has_stopped) writing.push_back(part.name);
  }
  return writing;
}

void Begun::end(nb::object error) {
  nb::object raised = error;
  const std::vector<std::string> writing = stop(raised);
  const nb::object conclude = std::exchange(conclude_, {});
  insist(raised, Clock::now(), [&] { raised = call_python(conclude, nb::make_tuple(raised, writing)); });
  if (raised.is(error)) return;
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(raised.ptr())), raised.ptr());
  throw nb::python_error();
}

void bind_begun(nb::module_& module) {
  nb::class_<Begun>(module, "Begun", "The transfers that a block begins, which end before it raises. A context manager.")
      .def(nb::init<double, nb::object>(), nb::arg("seconds"), nb::arg("conclude"),
           nb::sig(
               "def __init__(self, seconds: float, conclude: collections.abc.Callable[[BaseException, list[str]], BaseException]) -> None"),
           "`seconds`: how long writes to callers' memory may take to stop. `conclude(error, names)` gives what is raised in place of "
           "`error`, where to the memory of `names` something may still write.")
      .def_static("current", &Begun::current, nb::rv_policy::reference, nb::sig("def current() -> Begun | None"),
                  "The innermost block that this thread is in.")
      .def("add", &Begun::add, nb::arg("name"), nb::arg("transfer"), nb::arg("writes"),
           "`transfer` has cancel() and stopped(seconds). `writes`: to memory of the caller.")
      .def("end", &Begun::end, nb::arg("error"),
           "What leaving the block by `error` does: cancels everything, waits, and raises what is raised instead, if anything.")
      .def(
          "__enter__",
          [](nb::handle self) {
            nb::cast<Begun&>(self).enter();
            return nb::borrow(self);
          },
          nb::sig("def __enter__(self) -> Begun"))
      .def(
          "__exit__", [](Begun& begun, nb::handle, nb::object error, nb::handle) { begun.leave(std::move(error)); }, nb::arg().none(),
          nb::arg().none(), nb::arg().none(), nb::sig("def __exit__(self, kind: object, error: object, trace: object, /) -> None"));
  nb::class_<CancelledWhenDropped>(module, "CancelledWhenDropped", "Cancels a transfer when it is dropped itself.")
      .def(nb::init<Transfer>(), nb::arg("transfer"));
}

}  // namespace ray_hixl::python
