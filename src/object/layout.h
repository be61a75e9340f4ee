// Sizes of layouts, safe against overflow, and the limits within which an object can be described.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "ray_hixl/objects.h"
#include "ray_hixl/status.h"

namespace ray_hixl {

inline constexpr std::size_t kMostDimensions = 64;
inline constexpr std::size_t kLongestTypeName = 63;
inline constexpr std::uint32_t kLargestItem = 1u << 16;                // bytes
inline constexpr std::uint64_t kMostTensors = std::uint64_t{1} << 24;  // of one object
inline constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 62;    // of one object

// nullopt if the size of such a tensor does not fit 64 bits.
[[nodiscard]] std::optional<std::uint64_t> checked_bytes(const Layout& layout);
// kInvalidArgument names the layout that is outside of the limits.
[[nodiscard]] Status check_layouts(std::span<const Layout> layouts);
// The bytes of all tensors; kInvalidArgument if there are too many tensors or bytes, or a run is empty or names no layout.
// REQUIRES: check_layouts().
[[nodiscard]] Result<std::uint64_t> check_runs(std::span<const Layout> layouts, std::span<const Metadata::Run> runs);

}  // namespace ray_hixl
