#include "device_ops.h"

#include <string>

#include "gil.h"

namespace ray_hixl::python {
namespace {

Status to_status(nb::python_error& error, const std::string& what) {
  if (error.matches(PyExc_KeyboardInterrupt)) {
    PyErr_SetInterrupt();  // raised in the main thread once this is over
    return Status(Code::kCancelled, what + ": interrupted");
  }
  if (error.matches(nb::module_::import_("ray_hixl.errors").attr("HixlError"))) {
    return Status(code_named(text_of(error.value().attr("code"))), text_of(error.value()));
  }
  // A RuntimeError is torch's own: of the device, not of the caller. Its text goes on for many lines.
  const std::string text = text_of(error.type().attr("__name__")) + ": " + text_of(error.value());
  return Status(error.matches(PyExc_RuntimeError) ? Code::kNotAvailable : Code::kInternal, what + ": " + text.substr(0, text.find('\n')));
}

// Runs `call` with the GIL.
template <class Call>
Status run(const std::string& what, Call call) {
  const GilAcquire gil;
  if (!gil.acquired()) return Status(Code::kClosed, "Python is ending");
  try {
    unless_python_kills(call);
    return Status::ok();
  } catch (nb::python_error& error) {
    return to_status(error, what);
  }
}

}  // namespace

nb::handle npu_module() {
  static PyObject* module = nullptr;  // guarded by the GIL
  if (module == nullptr) module = nb::module_::import_("ray_hixl.npu").release().ptr();
  return module;
}

Status TorchOps::fence(std::int32_t device) {
  return run("waiting for npu:" + std::to_string(device), [&] { npu_module().attr("fence")(device); });
}

Status TorchOps::pack(std::int32_t device, std::span<const Copy> copies) {
  return run("copying tensors on npu:" + std::to_string(device), [&] {
    nb::list indices;
    nb::list addresses;
    for (const Copy& copy : copies) {
      indices.append(copy.tensor);
      addresses.append(reinterpret_cast<std::uintptr_t>(copy.to));
    }
    npu_module().attr("pack")(tensors_, indices, addresses, device);
  });
}

std::int32_t TorchOps::current_device() {
  std::int32_t device = 0;  // there always is one
  (void)run("asking torch for the current device", [&] { device = nb::cast<std::int32_t>(npu_module().attr("current_device")()); });
  return device;
}

}  // namespace ray_hixl::python
