// Reading what a user hands over: torch tensors (fast), DLPack objects and buffers. Needs the GIL.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common.h"
#include "subject.h"

namespace ray_hixl::python {

// One contiguous tensor, in host memory or an NPU's.
struct ReadTensor {
  MemoryRange range;
  std::string dtype;
  std::uint32_t item_bytes = 0;
  std::vector<std::uint64_t> shape;
  bool read_only = false;
  nb::object owner;  // keeps the bytes where they are: a buffer's export, a capsule, a tensor's storage
};

// Not dense, on another device, in a private format, in another byte order, not contiguous, or no tensor at all: kUnsupportedTensor or
// kInvalidArgument naming the subject. Nothing is copied.
//
// While `owner` lives, Python refuses to resize or free a buffer. torch has no such refusal: a storage that is itself resized
// (Tensor.resize_ to more bytes, UntypedStorage.resize_) moves its bytes; set_() and assigning `.data` only change the tensor.
[[nodiscard]] ReadTensor read_tensor(nb::handle object, Subject subject);

// Tensors ready to be published.
struct TensorList {
  std::vector<Layout> layouts;  // each once
  std::vector<SourceTensor> tensors;
  nb::object owners;  // a list that keeps all their memory
};
// Non-contiguous, conjugated and negated torch tensors of the CPU are packed by torch; those of an NPU get no address, so that publish()
// packs them. Everything else as read_tensor().
[[nodiscard]] TensorList read_tensors(const nb::list& objects);

// What tensors look like, also such that cannot be published.
struct DescribedTensors {
  std::vector<Layout> layouts;
  std::vector<std::uint32_t> layout_of;
};
// By attributes alone; a tensor that tells nothing counts as one of no elements of type uint8.
[[nodiscard]] DescribedTensors describe_tensors(const nb::list& objects);

}  // namespace ray_hixl::python
