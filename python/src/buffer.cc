#include "buffer.h"

#include <array>
#include <string_view>
#include <utility>

#include "torch_table.h"

namespace ray_hixl::python {
namespace {

// The struct format of an element type, or null: then the buffer protocol shows plain bytes, and only DLPack tells the type.
const char* format_of(std::string_view dtype) {
  struct Row {
    std::string_view dtype;
    const char* format;
  };
  static constexpr std::array kFormats = {Row{"uint8", "B"},      Row{"int8", "b"},       Row{"uint16", "H"},  Row{"int16", "h"},
                                          Row{"uint32", "I"},     Row{"int32", "i"},      Row{"uint64", "Q"},  Row{"int64", "q"},
                                          Row{"float16", "e"},    Row{"float32", "f"},    Row{"float64", "d"}, Row{"bool", "?"},
                                          Row{"complex64", "Zf"}, Row{"complex128", "Zd"}};
  for (const Row& row : kFormats) {
    if (row.dtype == dtype) return row.format;
  }
  return nullptr;
}

// What a Py_buffer points to, for as long as it is held.
struct View {
  std::shared_ptr<const void> keep;
  std::vector<Py_ssize_t> shape;
  std::vector<Py_ssize_t> strides;  // bytes
};

int get_buffer(PyObject* object, Py_buffer* out, int) noexcept {
  static char nothing;  // a buffer without bytes still needs an address
  const Buffer& buffer = *nb::inst_ptr<Buffer>(nb::handle(object));
  if (buffer.kind == MemoryKind::kDevice) {
    out->obj = nullptr;
    PyErr_SetString(PyExc_BufferError, "the memory is an NPU's, which the CPU does not reach: hand it to a consumer of DLPack");
    return -1;
  }
  const char* const format = format_of(buffer.dtype);
  auto* const view = new View{buffer.keep, {}, {}};
  if (format != nullptr) {
    view->shape.assign(buffer.dimensions->shape.begin(), buffer.dimensions->shape.end());
    for (const std::int64_t stride : buffer.dimensions->strides) view->strides.push_back(stride * buffer.item_bytes);
  } else {
    view->shape = {static_cast<Py_ssize_t>(buffer.length)};
    view->strides = {1};
  }
  out->obj = Py_NewRef(object);
  out->buf = buffer.address != nullptr ? static_cast<void*>(buffer.address) : &nothing;
  out->len = static_cast<Py_ssize_t>(buffer.length);
  out->itemsize = format != nullptr ? buffer.item_bytes : 1;
  out->readonly = 0;
  out->format = const_cast<char*>(format != nullptr ? format : "B");
  out->ndim = static_cast<int>(view->shape.size());
  out->shape = view->shape.data();
  out->strides = view->strides.data();
  out->suboffsets = nullptr;
  out->internal = view;
  return 0;
}

void release_buffer(PyObject*, Py_buffer* view) noexcept { delete static_cast<View*>(view->internal); }

PyType_Slot buffer_slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)}, {Py_bf_releasebuffer, reinterpret_cast<void*>(release_buffer)}, {0, nullptr}};

nb::tuple device_of(const Buffer& buffer) {
  const dlpack::Device device = dlpack_device(buffer.kind, buffer.device);
  return nb::make_tuple(device.type, device.index);
}

nb::object to_dlpack(const Buffer& buffer, nb::object stream, nb::object max_version, nb::object device, nb::object copy) {
  if (!stream.is_none()) throw nb::value_error("the memory belongs to no stream: pass stream=None");
  if (!device.is_none() && !device.equal(device_of(buffer))) throw nb::buffer_error("the memory is on another device");
  if (!copy.is_none() && nb::cast<bool>(copy)) throw nb::buffer_error("a copy is not made here: copy what you get");
  const std::optional<dlpack::DataType> dtype = dlpack_from_name(buffer.dtype);
  if (!dtype) throw nb::buffer_error(("DLPack has no element type '" + buffer.dtype + "'").c_str());
  const bool versioned = !max_version.is_none() && nb::cast<int>(max_version[0]) >= 1;
  return export_capsule({buffer.address, *dtype, buffer.dimensions, buffer.keep, dlpack_device(buffer.kind, buffer.device)}, versioned);
}

}  // namespace

void bind_buffer(nb::module_& module) {
  nb::class_<Buffer>(module, "Buffer", nb::type_slots(buffer_slots),
                     "Memory of an engine, writable: for every consumer of DLPack and, on the host, for memoryview() and numpy.asarray().")
      .def_prop_ro("address", [](const Buffer& buffer) { return reinterpret_cast<std::uintptr_t>(buffer.address); })
      .def_ro("nbytes", &Buffer::length)
      .def_ro("dtype", &Buffer::dtype, "Name of the element type, as torch spells it.")
      .def_prop_ro("shape", [](const Buffer& buffer) { return nb::tuple(nb::cast(buffer.dimensions->shape)); })
      .def_ro("region", &Buffer::region, "The region it is, or None.")
      .def("__len__", [](const Buffer& buffer) { return buffer.length; })
      .def("__dlpack__", &to_dlpack, nb::kw_only(), nb::arg("stream") = nb::none(), nb::arg("max_version") = nb::none(),
           nb::arg("dl_device") = nb::none(), nb::arg("copy") = nb::none(),
           nb::sig("def __dlpack__(self, *, stream: object = None, max_version: object = None, dl_device: object = None, "
                   "copy: object = None) -> typing.Any"))
      .def("__dlpack_device__", &device_of)
      .def("__repr__",
           [](const Buffer& buffer) { return "<ray_hixl Buffer of " + std::to_string(buffer.length) + " bytes, " + buffer.dtype + ">"; });
}

}  // namespace ray_hixl::python
