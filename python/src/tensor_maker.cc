#include "tensor_maker.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "buffer.h"
#include "device_ops.h"
#include "dlpack_export.h"
#include "torch_table.h"

namespace ray_hixl::python {
namespace {

// An element type of the same size that DLPack knows: what torch then views as the type it cannot say.
std::optional<dlpack::DataType> carrier_of(std::uint32_t item_bytes) {
  switch (item_bytes) {
    case 1: return dlpack_from_name("uint8");
    case 2: return dlpack_from_name("int16");
    case 4: return dlpack_from_name("int32");
    case 8: return dlpack_from_name("int64");
    case 16: return dlpack_from_name("complex128");
    default: return std::nullopt;
  }
}

// What torch_npu's import of DLPack takes. It refuses other types, for which torch's own then makes tensors that torch_npu cannot use.
bool npu_imports(std::string_view dtype) {
  static constexpr std::array<std::string_view, 12> kTypes = {"uint8",   "int8",    "int16",    "int32", "int64",     "float16",
                                                              "float32", "float64", "bfloat16", "bool",  "complex64", "complex128"};
  return std::ranges::find(kTypes, dtype) != kTypes.end();
}

// Made by torch_npu, which alone makes tensors that its operators take: torch's DLPack table does not.
nb::object to_torch_npu(Exported memory) { return call_npu("from_dlpack", nb::make_tuple(export_capsule(std::move(memory), false))); }

nb::object to_torch(const TorchTable& torch, Exported memory) {
  const dlpack::ExchangeApi* const api = torch.exchange_api();
  if (api == nullptr) return torch.module().attr("from_dlpack")(export_capsule(std::move(memory), false));
  void* made = nullptr;
  // On failure the table does not say who owns the tensor: it is leaked rather than freed twice.
  if (api->managed_to_object(export_versioned(std::move(memory)), &made) != 0) throw nb::python_error();
  return nb::steal(static_cast<PyObject*>(made));
}

}  // namespace

struct TensorMaker::Recipe {
  // How an element type passes through DLPack.
  struct Passage {
    dlpack::DataType dtype{};
    PyObject* viewed = nullptr;  // the torch dtype that the result is viewed as; null: it already is
  };
  Layout layout;
  std::shared_ptr<const Dimensions> dimensions;
  const TorchTable* torch = nullptr;  // null: make Buffers
  Passage host;
  Passage npu;
};

TensorMaker::TensorMaker(const Layout& layout) {
  auto recipe = std::make_shared<Recipe>();
  recipe->layout = layout;
  recipe->dimensions = std::make_shared<const Dimensions>(layout.shape);
  recipe->torch = TorchTable::get();
  if (recipe->torch != nullptr) {
    const Dtype& dtype = recipe->torch->dtype_named(layout.dtype);
    const std::optional<dlpack::DataType> sayable = dtype.dlpack ? dtype.dlpack : carrier_of(layout.item_bytes);
    if (!sayable || dtype.item_bytes != layout.item_bytes) {
      throw StatusError{Status(Code::kUnsupportedTensor, "elements of type '" + layout.dtype + "' have " +
                                                             std::to_string(layout.item_bytes) + " bytes at the source, " +
                                                             std::to_string(dtype.item_bytes) + " here")};
    }
    recipe->host = {*sayable, dtype.dlpack ? nullptr : dtype.object};
    recipe->npu = recipe->host;
    if (const auto carrier = carrier_of(layout.item_bytes); carrier && !npu_imports(layout.dtype)) recipe->npu = {*carrier, dtype.object};
  }
  recipe_ = std::move(recipe);
}

nb::object TensorMaker::make(Held memory) const {
  const Recipe& recipe = *recipe_;
  if (recipe.torch == nullptr) {
    return nb::cast(Buffer{memory.address, memory.length, recipe.layout.dtype, recipe.layout.item_bytes, recipe.dimensions,
                           std::move(memory.keep), std::nullopt, memory.kind, memory.device});
  }
  const bool on_npu = memory.kind == MemoryKind::kDevice;
  const Recipe::Passage& passage = on_npu ? recipe.npu : recipe.host;
  Exported exported{memory.address, passage.dtype, recipe.dimensions, std::move(memory.keep), dlpack_device(memory.kind, memory.device)};
  nb::object tensor = on_npu ? to_torch_npu(std::move(exported)) : to_torch(*recipe.torch, std::move(exported));
  return passage.viewed == nullptr ? tensor : tensor.attr("view")(nb::handle(passage.viewed));
}

void make_tensors(const Metadata& metadata, std::vector<FetchedTensor>& tensors, nb::list& made) {
  std::vector<TensorMaker> makers;
  makers.reserve(metadata.layouts().size());
  for (const Layout& layout : metadata.layouts()) makers.emplace_back(layout);
  while (made.size() < tensors.size()) {
    FetchedTensor& tensor = tensors[made.size()];
    made.append(makers[tensor.layout].make({tensor.address, tensor.length, tensor.kind, tensor.device, tensor.block}));
    tensor.block.reset();
  }
}

}  // namespace ray_hixl::python
