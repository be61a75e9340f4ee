// Buffer: memory of an engine for users without torch, by the buffer protocol and by DLPack.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common.h"
#include "dlpack_export.h"
#include "region.h"

namespace ray_hixl::python {

// Immutable; the memory itself is writable. Copies share it.
struct Buffer {
  std::byte* address = nullptr;
  std::uint64_t length = 0;  // bytes
  std::string dtype;         // torch's name of the element type
  std::uint32_t item_bytes = 1;
  std::shared_ptr<const Dimensions> dimensions;
  std::shared_ptr<const void> keep;
  std::optional<LocalRegion> region;  // where it is registered memory
  MemoryKind kind = MemoryKind::kHost;
  std::int32_t device = 0;  // NPU's index; 0 for host memory
};

}  // namespace ray_hixl::python
