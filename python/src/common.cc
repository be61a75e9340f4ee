#include "common.h"

#include <algorithm>

namespace ray_hixl::python {
namespace {

constexpr std::chrono::milliseconds kSignalSlice{100};
constexpr const char* kStillWritten = "may still be written";  // in the error of a transfer that something has not let go of

// What `make` gives, which is a new reference, or null with an error set.
template <class Make>
nb::object made_by(Make make) {
  PyObject* made = nullptr;
  unless_python_kills([&] { made = make(); });
  if (made == nullptr) throw nb::python_error();
  return nb::steal(made);
}

void set_python_error(const Status& status) {
  try {
    const std::string& text = status.message();  // may quote an environment variable, which need not be UTF-8
    const nb::object message = nb::steal(PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace"));
    if (!message.is_valid()) throw nb::python_error();
    const nb::object from_code = attribute_of(imported("ray_hixl.errors"), "from_code");
    const nb::object made = call_python(from_code, nb::make_tuple(std::string(code_name(status.code())), message));
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
  } catch (nb::python_error& failed) {
    failed.restore();
  }
}

// What nanobind catches that is no exception: Python kills this thread in code of its own that the binding called.
void stand_still_if_killed(const std::exception_ptr& thrown, void*) {
  if (!thrown) stand_still();
  std::rethrow_exception(thrown);
}

}  // namespace

SetPythonError::SetPythonError(const Status& status) { set_python_error(status); }

nb::object call_python(nb::handle callable, const nb::tuple& arguments, nb::handle named) {
  return made_by([&] { return PyObject_Call(callable.ptr(), arguments.ptr(), named.ptr()); });
}

nb::object attribute_of(nb::handle object, const char* name) {
  return made_by([&] { return PyObject_GetAttrString(object.ptr(), name); });
}

nb::object imported(const char* module) {
  return made_by([&] { return PyImport_ImportModule(module); });
}

std::string text_of(nb::handle object) {
  return nb::cast<std::string>(made_by([&] { return PyObject_Str(object.ptr()); }));
}

ForeignCalls::ForeignCalls(const Status& open) {
  raise_if_failed(open);
  if (!before_.is_before()) throw StatusError{Status(Code::kClosed, "Python is ending: no tensor is read or made any more")};
}

Code code_named(std::string_view name) {
  for (int value = 1; value <= static_cast<int>(Code::kDeviceBusy); ++value) {
    if (code_name(static_cast<Code>(value)) == name) return static_cast<Code>(value);
  }
  return Code::kInternal;
}

std::chrono::nanoseconds to_duration(double seconds) {
  constexpr double kLongest = 9.0e9;
  if (!(seconds > 0)) return std::chrono::nanoseconds::zero();
  if (seconds >= kLongest) return std::chrono::nanoseconds::max();
  return std::chrono::nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
}

std::shared_ptr<const void> keep_alive(nb::object object) {
  PyObject* const kept = object.release().ptr();
  return {kept, [](const void* dropped) {
            const GilAcquire gil;
            if (gil.acquired()) unless_python_kills([&] { Py_DECREF(static_cast<PyObject*>(const_cast<void*>(dropped))); });
          }};
}

bool wait_for(const Transfer& transfer, std::optional<double> seconds) {
  using Clock = std::chrono::steady_clock;
  const auto timeout = seconds ? to_duration(*seconds) : std::chrono::nanoseconds::max();
  const auto start = Clock::now();
  while (true) {
    const auto left = timeout == std::chrono::nanoseconds::max() ? timeout : timeout - (Clock::now() - start);
    {
      const GilRelease no_gil;
      if (transfer.wait(std::clamp<std::chrono::nanoseconds>(left, std::chrono::nanoseconds::zero(), kSignalSlice))) return true;
    }
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
    if (left <= kSignalSlice) return transfer.done();
  }
}

bool has_stopped(const Transfer& transfer, double seconds) {
  return wait_for(transfer, seconds) && transfer.result().message().find(kStillWritten) == std::string::npos;
}

void bind_errors(nb::module_&) { nb::register_exception_translator(stand_still_if_killed); }

}  // namespace ray_hixl::python
