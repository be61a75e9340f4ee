// Handing memory out as DLPack. The deleters touch no Python: a tensor may die in any thread, without the GIL, while the interpreter ends,
// or in a forked child (where the engine's memory ignores it).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common.h"
#include "dlpack.h"

namespace ray_hixl::python {

// Shape and strides, both in elements; shared by all tensors of one layout.
struct Dimensions {
  explicit Dimensions(const std::vector<std::uint64_t>& lengths);
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // row-major
};

// Memory of the host or an NPU, kept by `keep` until the last user is gone.
struct Exported {
  std::byte* address = nullptr;
  dlpack::DataType dtype{};
  std::shared_ptr<const Dimensions> dimensions;
  std::shared_ptr<const void> keep;
  dlpack::Device device{dlpack::kCpu, 0};
};

[[nodiscard]] inline dlpack::Device dlpack_device(MemoryKind kind, std::int32_t device) {
  return kind != MemoryKind::kDevice ? dlpack::Device{dlpack::kCpu, 0} : dlpack::Device{dlpack::kExtension, device};
}

// The caller owns the result: its deleter must be called once.
[[nodiscard]] dlpack::ManagedTensorVersioned* export_versioned(Exported memory);
// A capsule "dltensor_versioned" or, for older consumers, "dltensor".
[[nodiscard]] nb::object export_capsule(Exported memory, bool versioned);

}  // namespace ray_hixl::python
