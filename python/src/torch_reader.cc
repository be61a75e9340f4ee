#include "torch_reader.h"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "device_ops.h"

namespace ray_hixl::python {
namespace {

[[noreturn]] void refuse(nb::handle tensor, Subject subject, const std::string& cause) {
  const nb::object text = nb::module_::import_("ray_hixl.tensors").attr("explain_refusal")(tensor, subject.text(), cause);
  throw StatusError{Status(Code::kUnsupportedTensor, nb::cast<std::string>(text))};
}

std::string take_python_error() {
  nb::python_error error;
  return error.what();
}

Seen look_by_attributes(const TorchTable& torch, nb::handle tensor, Subject subject) {
  const nb::object device = tensor.attr("device");
  const auto kind = text_of(device.attr("type"));
  if (kind != "cpu" && kind != "npu") refuse(tensor, subject, "its device is " + kind);
  const bool quantized = nb::cast<bool>(tensor.attr("is_quantized")) || text_of(tensor.attr("dtype")).starts_with("torch.q");
  const bool dense = !nb::cast<bool>(tensor.attr("is_nested")) && tensor.attr("layout").is(torch.module().attr("strided"));
  if (quantized || !dense) refuse(tensor, subject, "it is not a plain dense tensor");
  Seen seen;
  seen.data = reinterpret_cast<std::byte*>(nb::cast<std::uintptr_t>(tensor.attr("data_ptr")()));
  seen.device = {dlpack::kCpu, 0};
  if (kind == "npu") seen.device = {dlpack::kExtension, nb::cast<std::int32_t>(device.attr("index"))};
  seen.shape = nb::cast<std::vector<std::uint64_t>>(tensor.attr("shape"));
  seen.contiguous = nb::cast<bool>(tensor.attr("is_contiguous")());
  seen.dtype = &torch.dtype_of(tensor.attr("dtype"));
  return seen;
}

Seen look_by_table(const TorchTable& torch, nb::handle tensor, Subject subject) {
  static PyObject* const dtype_name = PyUnicode_InternFromString("dtype");
  dlpack::Tensor raw{};
  if (torch.exchange_api()->tensor_from_object(tensor.ptr(), &raw) != 0) {
    const std::string cause = take_python_error();
    // Plain tensors of element types that DLPack cannot say.
    if (text_of(tensor.attr("dtype")).starts_with("torch.bits")) return look_by_attributes(torch, tensor, subject);
    refuse(tensor, subject, cause);
  }
  Seen seen;
  const std::span shape(raw.shape, static_cast<std::size_t>(raw.dimensions));
  seen.data = static_cast<std::byte*>(raw.data) + raw.byte_offset;
  seen.device = raw.device;
  seen.shape.assign(shape.begin(), shape.end());
  seen.contiguous = is_contiguous(shape, raw.strides);
  const nb::object dtype = nb::steal(PyObject_GetAttr(tensor.ptr(), dtype_name));
  if (!dtype.is_valid()) throw nb::python_error();
  seen.dtype = &torch.dtype_of(dtype);
  return seen;
}

// The one device type of DLPack that torch has for plugins: is it torch_npu here? A process has one plugin of this kind.
bool extension_is_npu(nb::handle tensor) {
  static bool is_npu = false;
  if (!is_npu) is_npu = text_of(tensor.attr("device").attr("type")) == "npu";
  return is_npu;
}

}  // namespace

bool is_contiguous(std::span<const std::int64_t> shape, const std::int64_t* strides) {
  if (strides == nullptr || std::ranges::find(shape, 0) != shape.end()) return true;
  std::int64_t expected = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

std::uint64_t Seen::bytes() const { return Layout{"", dtype->item_bytes, shape}.bytes(); }

MemoryRange Seen::range() const {
  if (!is_on_npu()) return {data, bytes()};
  return {data, bytes(), MemoryKind::kDevice, device.index};
}

Seen look(const TorchTable& torch, nb::handle tensor, Subject subject) {
  Seen seen = torch.exchange_api() != nullptr ? look_by_table(torch, tensor, subject) : look_by_attributes(torch, tensor, subject);
  if (seen.device.type == dlpack::kCpu || (seen.is_on_npu() && extension_is_npu(tensor))) return seen;
  refuse(tensor, subject, "its device is neither the CPU nor an NPU");
}

nb::object storage_of(nb::handle tensor) {
  static PyObject* const untyped_storage = PyUnicode_InternFromString("untyped_storage");
  nb::object storage = nb::steal(PyObject_CallMethodNoArgs(tensor.ptr(), untyped_storage));
  if (!storage.is_valid()) throw nb::python_error();
  return storage;
}

bool has_lazy_bits(nb::handle tensor) {
  static PyObject* const is_neg = PyUnicode_InternFromString("is_neg");
  static PyObject* const is_conj = PyUnicode_InternFromString("is_conj");
  for (PyObject* const question : {is_neg, is_conj}) {
    const nb::object answer = nb::steal(PyObject_CallMethodNoArgs(tensor.ptr(), question));
    if (!answer.is_valid()) throw nb::python_error();
    if (answer.ptr() == Py_True) return true;
  }
  return false;
}

void FormatChecker::check(nb::handle tensor, const Seen& seen, Subject subject) {
  if (seen.data == nullptr) return;
  const auto address = reinterpret_cast<std::uintptr_t>(seen.data);
  const auto after = known_.upper_bound(address);
  if (after != known_.begin() && address < std::prev(after)->second) return;
  const auto [first, bytes] =
      nb::cast<std::pair<std::uintptr_t, std::size_t>>(call_npu("check_format", nb::make_tuple(tensor, subject.text())));
  known_[first] = first + bytes;
}

}  // namespace ray_hixl::python
