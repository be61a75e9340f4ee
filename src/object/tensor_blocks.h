// TensorBlocks: which block of new memory each tensor of an object gets. It counts; whoever has its lengths allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ray_hixl {

inline constexpr std::uint64_t kTensorAlignment = 64;  // of tensors in a shared block of the host

// Not synchronised.
class TensorBlocks {
 public:
  struct Place {
    std::size_t block = 0;     // index into lengths()
    std::uint64_t offset = 0;  // bytes
  };

  // A tensor of `own_block_bytes` or more has a block of its own; smaller neighbours share blocks of at most that length, in which each
  // begins at a multiple of `alignment`.
  TensorBlocks(std::uint64_t alignment, std::uint64_t own_block_bytes) : alignment_(alignment), own_block_bytes_(own_block_bytes) {}

  // Of the next tensor. REQUIRES: length > 0.
  [[nodiscard]] Place place(std::uint64_t length);
  // Of the blocks; complete when every tensor has its place.
  [[nodiscard]] const std::vector<std::uint64_t>& lengths() const { return lengths_; }

 private:
  const std::uint64_t alignment_;
  const std::uint64_t own_block_bytes_;
  std::vector<std::uint64_t> lengths_;
  bool shares_ = false;  // the last block
};

}  // namespace ray_hixl
