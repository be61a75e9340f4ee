// Memory of a device or of the host, as the runtime gives it, filled and compared by seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hixl/api.h"

namespace fake_hixl::test {

[[nodiscard]] std::vector<unsigned char> pattern(std::size_t size, unsigned seed);

class Memory {
 public:
  Memory(hixl::MemType kind, std::size_t size, unsigned seed);
  ~Memory() { free(); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  [[nodiscard]] std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(pointer_); }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] hixl::MemType kind() const { return kind_; }
  [[nodiscard]] hixl::MemDesc desc() const { return {address(), size_, {}}; }

  void fill(unsigned seed);
  [[nodiscard]] std::vector<unsigned char> bytes() const;
  [[nodiscard]] bool holds(unsigned seed) const { return bytes() == pattern(size_, seed); }
  void free();

 private:
  const hixl::MemType kind_;
  const std::size_t size_;
  void* pointer_ = nullptr;
};

}  // namespace fake_hixl::test
