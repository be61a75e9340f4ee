#include "torch_table.h"

#include <algorithm>
#include <array>
#include <map>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "gil.h"
#include "object/element_types.h"

namespace ray_hixl::python {
namespace {

struct Row {
  std::string_view name;
  dlpack::DataType dtype;
};

constexpr std::array kDlpackNames = {
    Row{"int8", {0, 8, 1}},
    Row{"int16", {0, 16, 1}},
    Row{"int32", {0, 32, 1}},
    Row{"int64", {0, 64, 1}},
    Row{"uint8", {1, 8, 1}},
    Row{"uint16", {1, 16, 1}},
    Row{"uint32", {1, 32, 1}},
    Row{"uint64", {1, 64, 1}},
    Row{"float16", {2, 16, 1}},
    Row{"float32", {2, 32, 1}},
    Row{"float64", {2, 64, 1}},
    Row{"bfloat16", {4, 16, 1}},
    Row{"complex32", {5, 32, 1}},
    Row{"complex64", {5, 64, 1}},
    Row{"complex128", {5, 128, 1}},
    Row{"bool", {6, 8, 1}},
    Row{"float8_e4m3fn", {10, 8, 1}},
    Row{"float8_e4m3fnuz", {11, 8, 1}},
    Row{"float8_e5m2", {12, 8, 1}},
    Row{"float8_e5m2fnuz", {13, 8, 1}},
    Row{"float8_e8m0fnu", {14, 8, 1}},
};

static_assert(std::ranges::all_of(kDlpackNames, [](const Row& row) { return known_item_bytes(row.name) == row.dtype.bits / 8u; }));

TorchTable* the_table = nullptr;                        // never destroyed; guarded by the GIL
std::unordered_map<PyObject*, Dtype> dtypes_by_object;  // likewise
std::unordered_map<std::string, const Dtype*> dtypes_by_name;

const dlpack::ExchangeApi* find_api(nb::handle tensor_type) {
  constexpr const char* kAttribute = "__dlpack_c_exchange_api__";
  if (!nb::hasattr(tensor_type, kAttribute)) return nullptr;
  const nb::object capsule = tensor_type.attr(kAttribute);
  void* pointer = PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api");
  if (pointer == nullptr) PyErr_Clear();
  const auto* api = static_cast<const dlpack::ExchangeApi*>(pointer);
  return api != nullptr && api->version.major == 1 ? api : nullptr;
}

}  // namespace

std::optional<dlpack::DataType> dlpack_from_name(const std::string& name) {
  for (const Row& row : kDlpackNames) {
    if (row.name == name) return row.dtype;
  }
  return std::nullopt;
}

std::string name_from_dlpack(dlpack::DataType dtype) {
  for (const Row& row : kDlpackNames) {
    if (row.dtype.code == dtype.code && row.dtype.bits == dtype.bits && row.dtype.lanes == dtype.lanes) return std::string(row.name);
  }
  return {};
}

const TorchTable* TorchTable::get() { return the_table; }

void TorchTable::use(nb::handle module, bool exchange_api) {
  // All look-ups come first, since any may fail: nobody ever sees half a table.
  nb::object tensor_type = module.attr("Tensor");
  const dlpack::ExchangeApi* const api = exchange_api ? find_api(tensor_type) : nullptr;
  if (the_table == nullptr) the_table = new TorchTable;
  the_table->module_ = module.inc_ref().ptr();
  the_table->tensor_type_ = tensor_type.release().ptr();
  the_table->api_ = api;
}

bool TorchTable::is_tensor(nb::handle object) const {
  int is = 0;
  unless_python_kills([&] { is = PyObject_IsInstance(object.ptr(), tensor_type_); });  // asks for its __class__, which may be any code
  if (is < 0) throw nb::python_error();
  return is == 1;
}

const Dtype& TorchTable::dtype_of(nb::handle dtype) const {
  const auto it = dtypes_by_object.find(dtype.ptr());
  if (it != dtypes_by_object.end()) return it->second;
  if (!nb::isinstance(dtype, module().attr("dtype"))) throw StatusError{Status(Code::kUnsupportedTensor, "not a torch dtype")};
  Dtype known;
  known.name = nb::cast<std::string>(nb::str(dtype)).substr(std::string_view("torch.").size());
  known.item_bytes = nb::cast<std::uint32_t>(dtype.attr("itemsize"));
  known.object = dtype.inc_ref().ptr();
  known.dlpack = dlpack_from_name(known.name);
  return dtypes_by_object.emplace(dtype.ptr(), std::move(known)).first->second;
}

const Dtype& TorchTable::dtype_named(const std::string& name) const {
  const auto it = dtypes_by_name.find(name);
  if (it != dtypes_by_name.end()) return *it->second;
  if (!nb::hasattr(module(), name.c_str())) {
    throw StatusError{Status(Code::kUnsupportedTensor,
                             "this torch has no dtype '" + name + "', which the source's has: use the same torch on both sides")};
  }
  const Dtype& dtype = dtype_of(module().attr(name.c_str()));
  return *dtypes_by_name.emplace(name, &dtype).first->second;
}

void bind_torch(nb::module_& module) {
  module.def("use_torch", &TorchTable::use, nb::arg("module"), nb::arg("exchange_api") = true,
             "Tells the module where torch is. exchange_api=False ignores its DLPack table, as if it had none.");
  module.def("knows_torch", [] { return TorchTable::get() != nullptr; });
  module.def(
      "has_exchange_api", [] { return TorchTable::get() != nullptr && TorchTable::get()->exchange_api() != nullptr; },
      "Does this torch offer the DLPack table that makes reading a tensor cheap?");
}

}  // namespace ray_hixl::python
