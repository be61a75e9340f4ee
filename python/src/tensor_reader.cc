#include "tensor_reader.h"

#include <algorithm>
#include <map>
#include <utility>

#include "buffer.h"
#include "torch_reader.h"
#include "torch_table.h"

namespace ray_hixl::python {
namespace {

std::string ordinal(std::size_t index) { return "tensor " + std::to_string(index); }

std::string text_of(const nb::object& object) { return nb::cast<std::string>(nb::str(object)); }

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
  if (seen.is_on_npu()) FormatChecker().check(tensor, seen, index);
  ReadTensor read;
  read.range = seen.range();
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
  if (raw->device.type != dlpack::kCpu && raw->device.type != dlpack::kExtension) {
    throw StatusError{Status(Code::kUnsupportedTensor, ordinal(index) + " is neither in host memory nor in an NPU's")};
  }
  ReadTensor read;
  read.dtype = name_from_dlpack(raw->dtype);
  if (read.dtype.empty()) throw StatusError{Status(Code::kUnsupportedTensor, ordinal(index) + " has an element type that is not known")};
  if (!is_contiguous(shape, raw->strides)) throw StatusError{Status(Code::kInvalidArgument, ordinal(index) + " is not contiguous")};
  read.item_bytes = raw->dtype.bits / 8u;
  read.shape.assign(shape.begin(), shape.end());
  read.range = {static_cast<std::byte*>(raw->data) + raw->byte_offset, bytes_of(read.shape, read.item_bytes)};
  if (raw->device.type == dlpack::kExtension) {
    read.range.kind = MemoryKind::kDevice;
    read.range.device = raw->device.index;
  }
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
  const MemoryRange range{buffer.address, buffer.length, buffer.kind, buffer.device};
  return {range, buffer.dtype, buffer.item_bytes, {shape.begin(), shape.end()}, false, nb::borrow(object)};
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
  FormatChecker formats;
  const TorchTable* const torch = TorchTable::get();
  read.tensors.reserve(objects.size());
  std::size_t index = 0;
  for (nb::handle object : objects) {
    if (torch != nullptr && torch->is_tensor(object)) {
      Seen seen = look(*torch, object, index);
      nb::object kept = nb::borrow(object);
      const bool is_plain = seen.contiguous && !has_lazy_bits(object);
      if (seen.is_on_npu()) formats.check(object, seen, index);
      if (!is_plain && !seen.is_on_npu()) {
        kept = nb::module_::import_("ray_hixl.tensors").attr("pack")(object);
        seen = look(*torch, kept, index);
      }
      MemoryRange range = seen.range();
      if (!is_plain && seen.is_on_npu()) range.address = nullptr;  // to be packed on the NPU
      read.tensors.push_back({range, layouts.of(seen.dtype->name, seen.dtype->item_bytes, std::move(seen.shape))});
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
