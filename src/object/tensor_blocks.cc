#include "object/tensor_blocks.h"

#include "base/round_up.h"

namespace ray_hixl {

TensorBlocks::Place TensorBlocks::place(std::uint64_t length) {
  const std::uint64_t end = shares_ ? round_up(lengths_.back(), alignment_) : own_block_bytes_;
  if (end + length <= own_block_bytes_) {
    lengths_.back() = end + length;
    return {lengths_.size() - 1, end};
  }
  lengths_.push_back(length);
  shares_ = length < own_block_bytes_;
  return {lengths_.size() - 1, 0};
}

}  // namespace ray_hixl
