#include "device_ops.h"

#include <optional>
#include <string>
#include <utility>

#include "gil.h"

namespace ray_hixl::python {
namespace {

Status to_status(nb::python_error& error, const std::string& what) {
  if (error.matches(PyExc_KeyboardInterrupt)) {
    PyErr_SetInterrupt();  // raised in the main thread once this is over
    return Status(Code::kCancelled, what + ": interrupted");
  }
  if (error.matches(attribute_of(imported("ray_hixl.errors"), "HixlError"))) {
    return Status(code_named(text_of(attribute_of(error.value(), "code"))), text_of(error.value()));
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
  std::optional<nb::python_error> failed;
  try {
    call();
  } catch (const nb::python_error& error) {
    failed.emplace(error);  // to be told behind the block: an error's text is made by code of others (gil.h)
  }
  if (!failed) return Status::ok();
  try {
    return to_status(*failed, what);
  } catch (const nb::python_error&) {
    return Status(Code::kInternal, what + ": an error that does not tell what it is");
  }
}

std::string waiting_for(std::int32_t device) { return "waiting for npu:" + std::to_string(device); }

// An event of torch's, which knows of what torch has queued and not handed to the device yet. It is asked by way of Python's code, so that
// Ctrl-C is heard.
class TorchFence final : public Fence {
 public:
  TorchFence(std::int32_t device, std::shared_ptr<const void> event) : device_(device), event_(std::move(event)) {}

  Result<bool> passed() override {
    bool passed = false;
    RAY_HIXL_RETURN_IF_ERROR(run(waiting_for(device_), [&] {
      const nb::handle event(static_cast<PyObject*>(const_cast<void*>(event_.get())));
      passed = nb::cast<bool>(call_npu("passed", nb::make_tuple(event)));
    }));
    return passed;
  }

 private:
  const std::int32_t device_;
  const std::shared_ptr<const void> event_;
};

}  // namespace

nb::object call_npu(const char* function, const nb::tuple& arguments) {
  static PyObject* module = nullptr;  // guarded by the GIL
  if (module == nullptr) module = imported("ray_hixl.npu").release().ptr();
  return call_python(attribute_of(module, function), arguments);
}

Result<std::shared_ptr<Fence>> TorchOps::set_fence(std::int32_t device) {
  std::shared_ptr<Fence> fence;
  RAY_HIXL_RETURN_IF_ERROR(run(waiting_for(device), [&] {
    fence = std::make_shared<TorchFence>(device, keep_alive(call_npu("set_fence", nb::make_tuple(device))));
  }));
  return fence;
}

Status TorchOps::pack(std::int32_t device, std::span<const Copy> copies) {
  return run("copying tensors on npu:" + std::to_string(device), [&] {
    nb::list indices;
    nb::list addresses;
    for (const Copy& copy : copies) {
      indices.append(copy.tensor);
      addresses.append(reinterpret_cast<std::uintptr_t>(copy.to));
    }
    call_npu("pack", nb::make_tuple(tensors_, indices, addresses, device));
  });
}

std::int32_t TorchOps::landing_device(std::int32_t source_device) {
  std::int32_t device = source_device;  // what fails here fails again when the device is used
  (void)run("asking torch which NPU it uses",
            [&] { device = nb::cast<std::int32_t>(call_npu("landing_device", nb::make_tuple(source_device))); });
  return device;
}

}  // namespace ray_hixl::python
