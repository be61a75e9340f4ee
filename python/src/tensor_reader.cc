#include "tensor_reader.h"

#include <algorithm>
#include <map>
#include <utility>

#include "buffer.h"
#include "torch_table.h"

namespace ray_hixl::python {
namespace {

// What torch says of a tensor, without owning anything.
struct Seen {
  std::byte* data = nullptr;
  dlpack::Device device{};
  const Dtype* dtype = nullptr;
  std::vector<std::uint64_t> shape;
  bool contiguous = false;
};

std::string ordinal(std::size_t index) { return "tensor " + std::to_string(index); }

[[noreturn]] void refuse(nb::handle tensor, std::size_t index, const std::string& cause) {
  const nb::object text = nb::module_::import_("ray_hixl.tensors").attr("explain_refusal")(tensor, index, cause);
  throw StatusError{Status(Code::kUnsupportedTensor, nb::cast<std::string>(text))};
}

std::string text_of(const nb::object& object) { return nb::cast<std::string>(nb::str(object)); }

std::string take_python_error() {
  nb::python_error error;
  return error.what();
}

// Row-major without gaps? Dimensions of size one may have any stride.
bool is_contiguous(std::span<const std::int64_t> shape, const std::int64_t* strides) {
  if (strides == nullptr || std::ranges::find(shape, 0) != shape.end()) return true;
  std::int64_t expected = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

Seen look_by_attributes(const TorchTable& torch, nb::handle tensor, std::size_t index) {
  const auto kind = text_of(tensor.attr("device").attr("type"));
  if (kind != "cpu" && kind != "npu") refuse(tensor, index, "its device is " + kind);
  const bool quantized = nb::cast<bool>(tensor.attr("is_quantized")) || text_of(tensor.attr("dtype")).starts_with("torch.q");
  const bool dense = !nb::cast<bool>(tensor.attr("is_nested")) && tensor.attr("layout").is(torch.module().attr("strided"));
  if (quantized || !dense) refuse(tensor, index, "it is not a plain dense tensor");
  Seen seen;
  seen.data = reinterpret_cast<std::byte*>(nb::cast<std::uintptr_t>(tensor.attr("data_ptr")()));
  seen.device = {kind == "cpu" ? dlpack::kCpu : dlpack::kExtension, 0};
  seen.shape = nb::cast<std::vector<std::uint64_t>>(tensor.attr("shape"));
  seen.contiguous = nb::cast<bool>(tensor.attr("is_contiguous")());
  seen.dtype = &torch.dtype_of(tensor.attr("dtype"));
  return seen;
}

Seen look_by_table(const TorchTable& torch, nb::handle tensor, std::size_t index) {
  static PyObject* const dtype_name = PyUnicode_InternFromString("dtype");
  dlpack::Tensor raw{};
  if (torch.exchange_api()->tensor_from_object(tensor.ptr(), &raw) != 0) {
    const std::string cause = take_python_error();
    // Plain tensors of element types that DLPack cannot say.
    if (text_of(tensor.attr("dtype")).starts_with("torch.bits")) return look_by_attributes(torch, tensor, index);
    refuse(tensor, index, cause);
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

Seen look(const TorchTable& torch, nb::handle tensor, std::size_t index) {
  Seen seen = torch.exchange_api() != nullptr ? look_by_table(torch, tensor, index) : look_by_attributes(torch, tensor, index);
  if (seen.device.type == dlpack::kCpu) return seen;
  if (seen.device.type == dlpack::kExtension) {
    throw StatusError{Status(Code::kNotAvailable, ordinal(index) + " lies in NPU memory, which this version does not move: " +
                                                      "hand over tensor.cpu(), or leave tensor_transport off for this method")};
  }
  refuse(tensor, index, "its device is neither the CPU nor an NPU");
}

// Bits that the DLPack table does not show: the memory holds something else than the tensor's values.
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

std::uint64_t bytes_of(const std::vector<std::uint64_t>& shape, std::uint32_t item_bytes) { return Layout{"", item_bytes, shape}.bytes(); }

ReadTensor read_torch(const TorchTable& torch, nb::handle tensor, std::size_t index) {
  Seen seen = look(torch, tensor, index);
  if (!seen.contiguous) {
    throw StatusError{Status(Code::kInvalidArgument, ordinal(index) + " is not contiguous; use tensor.contiguous()")};
  }
  if (has_lazy_bits(tensor)) {
    throw StatusError{
        Status(Code::kInvalidArgument, ordinal(index) + " is a conjugated or negated view; use resolve_conj() or resolve_neg()")};
  }
  ReadTensor read;
  read.range = {seen.data, bytes_of(seen.shape, seen.dtype->item_bytes)};
  read.dtype = seen.dtype->name;
  read.item_bytes = seen.dtype->item_bytes;
  read.shape = std::move(seen.shape);
  read.owner = nb::borrow(tensor);
  return read;
}

// A DLPack capsule, old or new form, alive for as long as `owner`.
ReadTensor read_capsule(nb::object capsule, std::size_t index) {
  const dlpack::Tensor* raw = nullptr;
  bool read_only = false;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0) {
    const auto* managed = static_cast<dlpack::ManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1)
      throw StatusError{Status(Code::kUnsupportedTensor, ordinal(index) + " speaks another version of DLPack")};
    read_only = (managed->flags & dlpack::kReadOnly) != 0;
    raw = &managed->tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor") != 0) {
    raw = &static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))->tensor;
  } else {
    throw StatusError{Status(Code::kInvalidArgument, ordinal(index) + ": __dlpack__() gave no DLPack capsule")};
  }
  const std::span shape(raw->shape, static_cast<std::size_t>(raw->dimensions));
  if (raw->device.type != dlpack::kCpu) {
    throw StatusError{Status(Code::kNotAvailable, ordinal(index) + " is not in host memory, which is all that this version moves")};
  }
  ReadTensor read;
  read.dtype = name_from_dlpack(raw->dtype);
  if (read.dtype.empty()) throw StatusError{Status(Code::kUnsupportedTensor, ordinal(index) + " has an element type that is not known")};
  if (!is_contiguous(shape, raw->strides)) throw StatusError{Status(Code::kInvalidArgument, ordinal(index) + " is not contiguous")};
  read.item_bytes = raw->dtype.bits / 8u;
  read.shape.assign(shape.begin(), shape.end());
  read.range = {static_cast<std::byte*>(raw->data) + raw->byte_offset, bytes_of(read.shape, read.item_bytes)};
  read.read_only = read_only;
  read.owner = std::move(capsule);
  return read;
}

// The element type of a buffer by its struct format; uint8 of the same bytes where it is something else.
std::string name_from_format(const char* format, std::size_t item_bytes) {
  static const std::map<char, char> kinds = {{'b', 'i'}, {'h', 'i'}, {'i', 'i'}, {'l', 'i'}, {'q', 'i'}, {'B', 'u'}, {'H', 'u'},
                                             {'I', 'u'}, {'L', 'u'}, {'Q', 'u'}, {'e', 'f'}, {'f', 'f'}, {'d', 'f'}, {'?', 'b'}};
  const std::string text = format == nullptr ? "B" : format;
  const char last = text.empty() ? 'B' : text.back();
  const auto bits = std::to_string(item_bytes * 8);
  const auto kind = kinds.find(last);
  if (text.find('Z') != std::string::npos) return "complex" + bits;
  if (kind == kinds.end()) return {};
  switch (kind->second) {
    case 'i': return "int" + bits;
    case 'u': return "uint" + bits;
    case 'f': return "float" + bits;
    default: return "bool";
  }
}

ReadTensor read_buffer(nb::handle object, std::size_t index) {
  // A memoryview owns the Py_buffer and releases it when it dies.
  nb::object memory = nb::steal(PyMemoryView_FromObject(object.ptr()));
  if (!memory.is_valid()) throw nb::python_error();
  const Py_buffer& buffer = *PyMemoryView_GET_BUFFER(memory.ptr());
  if (PyBuffer_IsContiguous(&buffer, 'C') == 0) throw StatusError{Status(Code::kInvalidArgument, ordinal(index) + " is not contiguous")};
  ReadTensor read;
  read.dtype = name_from_format(buffer.format, static_cast<std::size_t>(buffer.itemsize));
  if (read.dtype.empty())
    throw StatusError{Status(Code::kUnsupportedTensor, ordinal(index) + " has elements of format '" + buffer.format + "'")};
  read.item_bytes = static_cast<std::uint32_t>(buffer.itemsize);
  for (int i = 0; i < buffer.ndim; ++i) read.shape.push_back(static_cast<std::uint64_t>(buffer.shape[i]));
  read.range = {static_cast<std::byte*>(buffer.buf), static_cast<std::uint64_t>(buffer.len)};
  read.read_only = buffer.readonly != 0;
  read.owner = std::move(memory);
  return read;
}

// Told apart from other buffers, since the buffer protocol does not know every element type.
ReadTensor read_own(nb::handle object) {
  const Buffer& buffer = nb::cast<const Buffer&>(object);
  const auto& shape = buffer.dimensions->shape;
  return {{buffer.address, buffer.length}, buffer.dtype, buffer.item_bytes, {shape.begin(), shape.end()}, false, nb::borrow(object)};
}

// Finds the index of a layout, adding it if it is new. Neighbours mostly have the same one.
class LayoutIndex {
 public:
  explicit LayoutIndex(std::vector<Layout>& layouts) : layouts_(layouts) {}

  std::uint32_t of(const std::string& dtype, std::uint32_t item_bytes, std::vector<std::uint64_t> shape) {
    if (!layouts_.empty() && layouts_[last_].dtype == dtype && layouts_[last_].shape == shape) return last_;
    const auto [it, added] = known_.try_emplace({dtype, shape}, static_cast<std::uint32_t>(layouts_.size()));
    if (added) layouts_.push_back({dtype, item_bytes, std::move(shape)});
    return last_ = it->second;
  }

 private:
  std::vector<Layout>& layouts_;
  std::map<std::pair<std::string, std::vector<std::uint64_t>>, std::uint32_t> known_;
  std::uint32_t last_ = 0;
};

}  // namespace

ReadTensor read_tensor(nb::handle object, std::size_t index) {
  const TorchTable* const torch = TorchTable::get();
  if (torch != nullptr && torch->is_tensor(object)) return read_torch(*torch, object, index);
  if (nb::isinstance<Buffer>(object)) return read_own(object);
  if (PyObject_CheckBuffer(object.ptr()) != 0) return read_buffer(object, index);
  if (nb::hasattr(object, "__dlpack__")) return read_capsule(object.attr("__dlpack__")(), index);
  throw StatusError{Status(Code::kInvalidArgument,
                           ordinal(index) + " is neither a tensor nor a buffer but a " + text_of(object.type().attr("__name__")))};
}

TensorList read_tensors(const nb::list& objects) {
  TensorList read;
  LayoutIndex layouts(read.layouts);
  nb::list owners;
  const TorchTable* const torch = TorchTable::get();
  read.tensors.reserve(objects.size());
  std::size_t index = 0;
  for (nb::handle object : objects) {
    if (torch != nullptr && torch->is_tensor(object)) {
      Seen seen = look(*torch, object, index);
      nb::object kept = nb::borrow(object);
      if (!seen.contiguous || has_lazy_bits(object)) {
        kept = nb::module_::import_("ray_hixl.tensors").attr("pack")(object);
        seen = look(*torch, kept, index);
      }
      const std::uint64_t bytes = bytes_of(seen.shape, seen.dtype->item_bytes);
      read.tensors.push_back({{seen.data, bytes}, layouts.of(seen.dtype->name, seen.dtype->item_bytes, std::move(seen.shape))});
      owners.append(std::move(kept));
    } else {
      ReadTensor other = read_tensor(object, index);
      read.tensors.push_back({other.range, layouts.of(other.dtype, other.item_bytes, std::move(other.shape))});
      owners.append(std::move(other.owner));
    }
    ++index;
  }
  read.owners = std::move(owners);
  return read;
}

DescribedTensors describe_tensors(const nb::list& objects) {
  DescribedTensors described;
  LayoutIndex layouts(described.layouts);
  const TorchTable* const torch = TorchTable::get();
  for (const nb::handle object : objects) {
    std::uint32_t layout = 0;
    if (torch != nullptr && torch->is_tensor(object)) {
      const Dtype& dtype = torch->dtype_of(object.attr("dtype"));
      std::vector<std::uint64_t> shape;
      // A nested tensor has no shape to ask for.
      if (!nb::cast<bool>(object.attr("is_nested"))) shape = nb::cast<std::vector<std::uint64_t>>(object.attr("shape"));
      layout = layouts.of(dtype.name, dtype.item_bytes, std::move(shape));
    } else {
      layout = layouts.of("uint8", 1, {0});
    }
    described.layout_of.push_back(layout);
  }
  return described;
}

}  // namespace ray_hixl::python
