// Making what a user gets: torch tensors where torch is known, else Buffers; each with memory of its own. Needs the GIL.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common.h"

namespace ray_hixl::python {

// Memory to be shown as a tensor. `keep` holds it until the tensor is gone.
struct Held {
  std::byte* address = nullptr;
  std::uint64_t length = 0;  // bytes
  MemoryKind kind = MemoryKind::kHost;
  std::int32_t device = 0;  // NPU's index
  std::shared_ptr<const void> keep;
};

// Makes tensors of one layout, one after another.
class TensorMaker {
 public:
  // kUnsupportedTensor if torch has no such element type, or is not there to name one that DLPack cannot.
  explicit TensorMaker(const Layout& layout);
  // Takes `memory.keep` along.
  [[nodiscard]] nb::object make(Held memory) const;

 private:
  struct Recipe;
  std::shared_ptr<const Recipe> recipe_;
};

// Appends those of a fetch's tensors, in published order, that are not in `made` yet, and takes their memory along. Where it throws, it may
// be called again.
void make_tensors(const Metadata& metadata, std::vector<FetchedTensor>& tensors, nb::list& made);

}  // namespace ray_hixl::python
