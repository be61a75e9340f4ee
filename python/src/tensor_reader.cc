#include "tensor_reader.h"

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <utility>

#include "buffer.h"
#include "gil.h"
#include "object/element_types.h"
#include "object/layout.h"
#include "torch_reader.h"
#include "torch_table.h"

namespace ray_hixl::python {
namespace {

constexpr const char* kNotContiguous = " is not contiguous: take one that is, and copy (tensor.contiguous(), numpy.ascontiguousarray)";

std::uint64_t bytes_of(const std::vector<std::uint64_t>& shape, std::uint32_t item_bytes) { return Layout{"", item_bytes, shape}.bytes(); }

ReadTensor read_torch(const TorchTable& torch, nb::handle tensor, Subject subject) {
  Seen seen = look(torch, tensor, subject);
  if (!seen.contiguous) {
    throw StatusError{Status(Code::kInvalidArgument, subject.text() + kNotContiguous)};
  }
  if (has_lazy_bits(tensor)) {
    throw StatusError{
        Status(Code::kInvalidArgument, subject.text() + " is a conjugated or negated view; use resolve_conj() or resolve_neg()")};
  }
  if (seen.is_on_npu()) FormatChecker().check(tensor, seen, subject);
  ReadTensor read;
  read.range = seen.range();
  read.dtype = seen.dtype->name;
  read.item_bytes = seen.dtype->item_bytes;
  read.shape = std::move(seen.shape);
  read.owner = storage_of(tensor);
  return read;
}

// What a DLPack capsule of either form says; valid while the capsule lives.
struct Capsule {
  const dlpack::Tensor* tensor = nullptr;
  bool read_only = false;
};

// What `object` exports its memory by, to be called; null if it does not. A property, or __getattr__, is code of its own.
nb::object exporter_of(nb::handle object) {
  try {
    return attribute_of(object, "__dlpack__");
  } catch (const nb::python_error& error) {
    if (!error.matches(PyExc_AttributeError)) throw;
    return {};
  }
}

// Version 1 says whether the memory may be written; producers from before it do not know the argument.
nb::object capsule_of(const nb::object& export_it) {
  nb::dict named;
  named["max_version"] = nb::make_tuple(1, 0);
  try {
    return call_python(export_it, nb::make_tuple(), named);
  } catch (const nb::python_error& error) {
    if (!error.matches(PyExc_TypeError)) throw;
  }
  return call_python(export_it, nb::make_tuple());
}

Capsule open_capsule(nb::handle capsule, Subject subject) {
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0) {
    const auto* managed = static_cast<dlpack::ManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != 1)
      throw StatusError{Status(Code::kUnsupportedTensor, subject.text() + " speaks another version of DLPack")};
    return {&managed->tensor, (managed->flags & (dlpack::kReadOnly | dlpack::kIsCopied)) != 0};
  }
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor") != 0)
    return {&static_cast<dlpack::ManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"))->tensor, false};
  throw StatusError{Status(Code::kInvalidArgument, subject.text() + ": __dlpack__() gave no DLPack capsule")};
}

// A number of a capsule that contradicts another, or cannot be; null if there is none.
const char* wrong_number(const dlpack::Tensor& raw) {
  if (raw.dimensions < 0 || static_cast<std::size_t>(raw.dimensions) > kMostDimensions) return "its number of dimensions";
  if (raw.dimensions > 0 && raw.shape == nullptr) return "its shape, which is missing";
  const std::span shape(raw.shape, static_cast<std::size_t>(raw.dimensions));
  if (std::ranges::any_of(shape, [](std::int64_t length) { return length < 0; })) return "its shape, which is negative";
  const auto bytes = checked_bytes({"", raw.dtype.bits / 8u, {shape.begin(), shape.end()}});
  if (!bytes || *bytes > kMostBytes) return "its size, which does not fit any memory";
  if (*bytes != 0 && raw.data == nullptr) return "its address, which is null";
  std::uintptr_t end = 0;
  if (__builtin_add_overflow(reinterpret_cast<std::uintptr_t>(raw.data), raw.byte_offset, &end) ||
      __builtin_add_overflow(end, *bytes, &end))
    return "its byte offset, which leads out of memory";
  if (raw.device.type == dlpack::kExtension && raw.device.index < 0) return "the index of its device";
  return nullptr;
}

// Alive for as long as `owner`.
ReadTensor read_capsule(nb::object capsule, Subject subject) {
  const auto [raw, read_only] = open_capsule(capsule, subject);
  if (raw->device.type != dlpack::kCpu && raw->device.type != dlpack::kExtension)
    throw StatusError{Status(Code::kUnsupportedTensor, subject.text() + " is neither in host memory nor in an NPU's")};
  ReadTensor read;
  read.dtype = name_from_dlpack(raw->dtype);
  if (read.dtype.empty()) throw StatusError{Status(Code::kUnsupportedTensor, subject.text() + " has an element type that is not known")};
  if (const char* const wrong = wrong_number(*raw))
    throw StatusError{Status(Code::kInvalidArgument, subject.text() + " is described wrongly by its DLPack capsule: " + wrong)};
  const std::span shape(raw->shape, static_cast<std::size_t>(raw->dimensions));
  if (!is_contiguous(shape, raw->strides)) throw StatusError{Status(Code::kInvalidArgument, subject.text() + kNotContiguous)};
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

// A struct format of one plain element: byte order, "Z" before the parts of a complex number, one letter.
struct ElementFormat {
  char order = '@';
  bool is_complex = false;
  char letter = 0;  // 0: it is something else
};

ElementFormat parse_format(std::string_view text) {
  ElementFormat format;
  if (!text.empty() && std::string_view("@=<>!").find(text.front()) != std::string_view::npos) {
    format.order = text.front();
    text.remove_prefix(1);
  }
  if (text.starts_with('Z')) {
    format.is_complex = true;
    text.remove_prefix(1);
  }
  if (text.size() == 1) format.letter = text.front();
  return format;
}

bool is_native(char order) {
  constexpr bool kLittle = std::endian::native == std::endian::little;
  if (order == '<') return kLittle;
  if (order == '>' || order == '!') return !kLittle;
  return true;
}

// torch's name of an element type; empty if there is none, or if `item_bytes` is no size of it.
std::string name_of(const ElementFormat& format, std::size_t item_bytes) {
  struct Row {
    char letter;
    std::string_view kind;
    std::size_t bytes;
    std::size_t other_bytes;  // "l" is of 8 bytes natively, of 4 in a standard format
  };
  static constexpr std::array kRows = {Row{'b', "int", 1, 1},   Row{'h', "int", 2, 2},  Row{'i', "int", 4, 4},   Row{'l', "int", 8, 4},
                                       Row{'q', "int", 8, 8},   Row{'B', "uint", 1, 1}, Row{'H', "uint", 2, 2},  Row{'I', "uint", 4, 4},
                                       Row{'L', "uint", 8, 4},  Row{'Q', "uint", 8, 8}, Row{'e', "float", 2, 2}, Row{'f', "float", 4, 4},
                                       Row{'d', "float", 8, 8}, Row{'?', "bool", 1, 1}};
  const auto* const row = std::ranges::find(kRows, format.letter, &Row::letter);
  if (row == kRows.end() || (format.is_complex && row->kind != "float")) return {};
  const std::size_t parts = format.is_complex ? 2 : 1;
  if (item_bytes != parts * row->bytes && item_bytes != parts * row->other_bytes) return {};
  if (row->kind == "bool") return "bool";
  return (format.is_complex ? "complex" : std::string(row->kind)) + std::to_string(item_bytes * 8);
}

std::string element_type(const Py_buffer& buffer, Subject subject) {
  const std::string_view text = buffer.format == nullptr ? "B" : buffer.format;
  const ElementFormat format = parse_format(text);
  std::string name = name_of(format, static_cast<std::size_t>(buffer.itemsize));
  if (name.empty() || !known_item_bytes(name)) {
    throw StatusError{Status(Code::kUnsupportedTensor, subject.text() + " has elements of format '" + std::string(text) + "' of " +
                                                           std::to_string(buffer.itemsize) + " bytes, which is no plain number")};
  }
  if (buffer.itemsize > 1 && !is_native(format.order)) {
    throw StatusError{Status(Code::kUnsupportedTensor, subject.text() + " has elements in a foreign byte order (format '" +
                                                           std::string(text) +
                                                           "'); convert it: array.astype(array.dtype.newbyteorder('='))")};
  }
  return name;
}

ReadTensor read_buffer(nb::handle object, Subject subject) {
  // A memoryview owns the Py_buffer and releases it when it dies.
  PyObject* viewed = nullptr;
  unless_python_kills([&] { viewed = PyMemoryView_FromObject(object.ptr()); });
  if (viewed == nullptr) {
    const nb::python_error error;
    if (!error.matches(PyExc_ValueError) && !error.matches(PyExc_BufferError)) throw nb::python_error(error);
    throw StatusError{Status(Code::kUnsupportedTensor, subject.text() + " gives no buffer: " + text_of(error.value()))};
  }
  nb::object memory = nb::steal(viewed);
  const Py_buffer& buffer = *PyMemoryView_GET_BUFFER(memory.ptr());
  if (PyBuffer_IsContiguous(&buffer, 'C') == 0) throw StatusError{Status(Code::kInvalidArgument, subject.text() + kNotContiguous)};
  ReadTensor read;
  read.dtype = element_type(buffer, subject);
  read.item_bytes = static_cast<std::uint32_t>(buffer.itemsize);
  for (int i = 0; i < buffer.ndim; ++i) read.shape.push_back(static_cast<std::uint64_t>(buffer.shape[i]));
  read.range = {static_cast<std::byte*>(buffer.buf), static_cast<std::uint64_t>(buffer.len)};
  if (bytes_of(read.shape, read.item_bytes) != read.range.length)
    throw StatusError{Status(Code::kInvalidArgument, subject.text() + " is a buffer whose length is not that of its shape")};
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

ReadTensor read_tensor(nb::handle object, Subject subject) {
  const TorchTable* const torch = TorchTable::get();
  if (torch != nullptr && torch->is_tensor(object)) return read_torch(*torch, object, subject);
  if (nb::isinstance<Buffer>(object)) return read_own(object);
  if (PyObject_CheckBuffer(object.ptr()) != 0) return read_buffer(object, subject);
  if (const nb::object exporter = exporter_of(object); exporter.is_valid()) return read_capsule(capsule_of(exporter), subject);
  throw StatusError{Status(Code::kInvalidArgument,
                           subject.text() + " is neither a tensor nor a buffer but a " + text_of(object.type().attr("__name__")))};
}

TensorList read_tensors(const nb::list& objects) {
  TensorList read;
  LayoutIndex layouts(read.layouts);
  nb::list owners;
  nb::list storages;
  FormatChecker formats;
  const TorchTable* const torch = TorchTable::get();
  read.tensors.reserve(objects.size());
  for (nb::handle object : objects) {
    const Subject subject = Subject::tensor(read.tensors.size());
    if (torch != nullptr && torch->is_tensor(object)) {
      Seen seen = look(*torch, object, subject);
      nb::object kept;
      const bool is_plain = seen.contiguous && !has_lazy_bits(object);
      if (seen.is_on_npu()) formats.check(object, seen, subject);
      if (seen.is_on_npu()) {
        kept = nb::borrow(object);  // what packing copies
        if (is_plain) storages.append(storage_of(object));
      } else if (is_plain) {
        kept = storage_of(object);
      } else {
        kept = nb::module_::import_("ray_hixl.tensors").attr("pack")(object);
        seen = look(*torch, kept, subject);
      }
      MemoryRange range = seen.range();
      if (!is_plain && seen.is_on_npu()) range.address = nullptr;  // to be packed on the NPU
      read.tensors.push_back({range, layouts.of(seen.dtype->name, seen.dtype->item_bytes, std::move(seen.shape))});
      owners.append(std::move(kept));
    } else {
      ReadTensor other = read_tensor(object, subject);
      read.tensors.push_back({other.range, layouts.of(other.dtype, other.item_bytes, std::move(other.shape))});
      owners.append(std::move(other.owner));
    }
  }
  for (const nb::handle storage : storages) owners.append(storage);  // behind the tensors, which are found by their index
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
