// Blocks of an arena, as the tests of arenas take them.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

#include "memory/arena.h"
#include "support/sizes.h"

namespace ray_hixl::memory {

using BlockPtr = std::shared_ptr<const Block>;

inline constexpr std::uint64_t kSegment = 8 * test::kMiB;  // the first one that serves small blocks
inline constexpr std::uint64_t kLargestSegment = 64 * test::kMiB;

inline BlockPtr allocate(const std::shared_ptr<Arena>& arena, std::uint64_t bytes) {
  Result<BlockPtr> block = arena->allocate(bytes);
  EXPECT_TRUE(block.is_ok()) << block.status().to_string();
  return block.is_ok() ? *block : nullptr;
}

}  // namespace ray_hixl::memory
