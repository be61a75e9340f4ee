// What every part of the binding needs: raising a Status, converting bytes and times, keeping Python objects alive from C++.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gil.h"
#include "ray_hixl/ray_hixl.h"

namespace ray_hixl::python {

namespace nb = nanobind;

// What the binding throws, with the GIL: the ray_hixl.errors class of its code. Made where it is thrown, and not where nanobind catches it:
// a thread that Python kills for taking the GIL meanwhile (gil.h) can be caught in the first place only.
struct SetPythonError {
  explicit SetPythonError(const Status& status);
};
struct StatusError : private SetPythonError, nb::python_error {
  explicit StatusError(const Status& status) : SetPythonError(status) {}
};

inline void raise_if_failed(const Status& status) {
  if (!status.is_ok()) throw StatusError{status};
}

template <class T>
T value_or_raise(Result<T> result) {
  raise_if_failed(result.status());
  return *std::move(result);
}

inline std::span<const std::byte> view(const nb::bytes& bytes) {
  return {static_cast<const std::byte*>(static_cast<const void*>(bytes.c_str())), bytes.size()};
}

inline nb::bytes to_bytes(const Bytes& bytes) { return nb::bytes(bytes.data(), bytes.size()); }

// Code of others, in which a thread that Python kills stands still (gil.h).
nb::object call_python(nb::handle callable, const nb::tuple& arguments, nb::handle named = {});  // `named`: a dict
nb::object attribute_of(nb::handle object, const char* name);
nb::object imported(const char* module);
// str(object).
std::string text_of(nb::handle object);

// The code of a name that code_name() gives; kInternal for any other text.
[[nodiscard]] Code code_named(std::string_view name);

// Around what calls code of others: a caller's objects, torch. Raises Closed before any of it is called, where `open` is not ok or Python
// ends: a thread that Python killed in there would end the process.
class ForeignCalls {
 public:
  explicit ForeignCalls(const Status& open = {});

 private:
  BeforeTheEnd before_;
};

// Seconds to a duration; negative counts as zero.
[[nodiscard]] std::chrono::nanoseconds to_duration(double seconds);

// A reference to `object` that C++ may drop on any thread: it takes the GIL for it, and leaks the object once Python is shutting down.
[[nodiscard]] std::shared_ptr<const void> keep_alive(nb::object object);

// Waits without the GIL, and wakes now and then to see whether the user pressed Ctrl-C. False if the time was not enough.
[[nodiscard]] bool wait_for(const Transfer& transfer, std::optional<double> seconds);

// As wait_for(); true once nothing writes to the transfer's memory any more, however it ended.
[[nodiscard]] bool has_stopped(const Transfer& transfer, double seconds);

void bind_errors(nb::module_& module);
void bind_options(nb::module_& module);
void bind_buffer(nb::module_& module);
void bind_torch(nb::module_& module);
void bind_begun(nb::module_& module);
void bind_engine(nb::module_& module);
void bind_objects(nb::module_& module);
void bind_cann(nb::module_& module);

}  // namespace ray_hixl::python
