#include "dlpack_export.h"

#include <utility>

namespace ray_hixl::python {
namespace {

// A managed tensor and what it needs to live.
template <class Managed>
struct Export {
  Managed managed{};
  Exported memory;
};

template <class Managed>
Managed* make(Exported memory) {
  auto* const made = new Export<Managed>{{}, std::move(memory)};
  Dimensions& dimensions = const_cast<Dimensions&>(*made->memory.dimensions);  // DLPack says int64_t*, consumers only read
  made->managed.tensor = {made->memory.address,
                          made->memory.device,
                          static_cast<std::int32_t>(dimensions.shape.size()),
                          made->memory.dtype,
                          dimensions.shape.data(),
                          dimensions.strides.data(),
                          0};
  made->managed.context = made;
  made->managed.deleter = [](Managed* managed) { delete static_cast<Export<Managed>*>(managed->context); };
  return &made->managed;
}

// A consumer that takes the tensor renames the capsule; one that nobody took still owns it.
template <class Managed>
nb::object capsule(Managed* managed, const char* name) {
  const auto destroy = [](PyObject* object) {
    const char* const own = PyCapsule_GetName(object);
    const bool untaken = own != nullptr && (std::string_view(own) == "dltensor" || std::string_view(own) == "dltensor_versioned");
    if (!untaken) return;
    auto* const left = static_cast<Managed*>(PyCapsule_GetPointer(object, own));
    left->deleter(left);
  };
  PyObject* const made = PyCapsule_New(managed, name, destroy);
  if (made == nullptr) {
    managed->deleter(managed);
    throw nb::python_error();
  }
  return nb::steal(made);
}

}  // namespace

Dimensions::Dimensions(const std::vector<std::uint64_t>& lengths) : shape(lengths.begin(), lengths.end()), strides(lengths.size()) {
  std::int64_t stride = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    strides[i] = stride;
    stride *= std::max<std::int64_t>(shape[i], 1);
  }
}

dlpack::ManagedTensorVersioned* export_versioned(Exported memory) {
  auto* const managed = make<dlpack::ManagedTensorVersioned>(std::move(memory));
  managed->version = {1, 0};
  return managed;
}

nb::object export_capsule(Exported memory, bool versioned) {
  if (versioned) return capsule(export_versioned(std::move(memory)), "dltensor_versioned");
  return capsule(make<dlpack::ManagedTensor>(std::move(memory)), "dltensor");
}

}  // namespace ray_hixl::python
