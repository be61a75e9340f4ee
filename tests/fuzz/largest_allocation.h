// No input may cost memory out of proportion to its size. Asks AddressSanitizer's allocator, so it says nothing without that.
#pragma once

#include <cstddef>

namespace ray_hixl {

// While it lives, no single allocation of this thread is far larger than the input.
class ModestAllocations {
 public:
  explicit ModestAllocations(std::size_t input_bytes);
  ~ModestAllocations();
  ModestAllocations(const ModestAllocations&) = delete;
  ModestAllocations& operator=(const ModestAllocations&) = delete;

 private:
  const std::size_t limit_;
};

}  // namespace ray_hixl
