// An allocation that HIXL makes for itself on a device, on pages of 2 MiB: never less than one.
#pragma once

#include <cstddef>
#include <memory>

namespace fake_hixl {

class HugeBlock {
 public:
  // Null if the device has no room.
  [[nodiscard]] static std::unique_ptr<HugeBlock> take(int device, std::size_t size);
  ~HugeBlock();
  HugeBlock(const HugeBlock&) = delete;
  HugeBlock& operator=(const HugeBlock&) = delete;

 private:
  HugeBlock(int device, std::size_t offset) : device_(device), offset_(offset) {}
  const int device_;  // physical
  const std::size_t offset_;
};

}  // namespace fake_hixl
