#include "hixl/support/memory.h"

#include <cstdlib>

#include "runtime/acl.h"

namespace fake_hixl::test {

std::vector<unsigned char> pattern(std::size_t size, unsigned seed) {
  std::vector<unsigned char> bytes(size);
  std::uint32_t state = seed * 2654435761U + 1;
  for (unsigned char& byte : bytes) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<unsigned char>(state >> 24);
  }
  return bytes;
}

Memory::Memory(hixl::MemType kind, std::size_t size, unsigned seed) : kind_(kind), size_(size) {
  constexpr int kHugeFirst = 0;
  const int status = kind == hixl::kMemDevice ? aclrtMalloc(&pointer_, size, kHugeFirst) : aclrtMallocHost(&pointer_, size);
  if (status != 0) std::abort();
  fill(seed);
}

void Memory::fill(unsigned seed) {
  const auto content = pattern(size_, seed);
  (void)aclrtMemcpy(pointer_, size_, content.data(), size_, fake_cann::kByPointers);
}

std::vector<unsigned char> Memory::bytes() const {
  std::vector<unsigned char> content(size_);
  (void)aclrtMemcpy(content.data(), size_, pointer_, size_, fake_cann::kByPointers);
  return content;
}

void Memory::free() {
  if (pointer_ != nullptr) (void)(kind_ == hixl::kMemDevice ? aclrtFree(pointer_) : aclrtFreeHost(pointer_));
  pointer_ = nullptr;
}

}  // namespace fake_hixl::test
