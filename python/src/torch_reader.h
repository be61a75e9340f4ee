// Reading torch tensors: through torch's DLPack table where it has one, else by attributes. Needs the GIL.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common.h"
#include "dlpack.h"
#include "subject.h"
#include "torch_table.h"

namespace ray_hixl::python {

// What torch says of a tensor, without owning anything.
struct Seen {
  std::byte* data = nullptr;
  dlpack::Device device{};
  const Dtype* dtype = nullptr;
  std::vector<std::uint64_t> shape;
  bool contiguous = false;

  [[nodiscard]] bool is_on_npu() const { return device.type == dlpack::kExtension; }
  [[nodiscard]] std::uint64_t bytes() const;
  // Its memory, whether contiguous or not.
  [[nodiscard]] MemoryRange range() const;
};

// Dense tensors of the CPU and of NPUs. kUnsupportedTensor names the subject and what to do for all others.
[[nodiscard]] Seen look(const TorchTable& torch, nb::handle tensor, Subject subject);
// What has the bytes, also when the tensor is given another storage (set_(), assigning `.data`).
[[nodiscard]] nb::object storage_of(nb::handle tensor);
// Bits that the DLPack table does not show: the memory holds something else than the tensor's values.
[[nodiscard]] bool has_lazy_bits(nb::handle tensor);
// Row-major without gaps? Dimensions of size one may have any stride; null strides are row-major.
[[nodiscard]] bool is_contiguous(std::span<const std::int64_t> shape, const std::int64_t* strides);

// Refuses npu tensors in the NPU's private formats, whose bytes are not their values in order. Asks once for each storage, since asking is
// the dearest part of reading a tensor: it remembers address ranges, so it must not outlive the tensors that it has seen.
class FormatChecker {
 public:
  // kUnsupportedTensor names the subject.
  void check(nb::handle tensor, const Seen& seen, Subject subject);

 private:
  std::map<std::uintptr_t, std::uintptr_t> known_;  // first byte -> end of a storage of a plain format
};

}  // namespace ray_hixl::python
