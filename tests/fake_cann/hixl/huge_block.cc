#include "hixl/huge_block.h"

#include "runtime/fake_cann.h"

namespace fake_hixl {

std::unique_ptr<HugeBlock> HugeBlock::take(int device, std::size_t size) {
  std::size_t offset = 0;
  if (fake_cann_take_huge(device, size, &offset) != 0) return nullptr;
  return std::unique_ptr<HugeBlock>(new HugeBlock(device, offset));
}

HugeBlock::~HugeBlock() { fake_cann_give_huge_back(device_, offset_); }

}  // namespace fake_hixl
