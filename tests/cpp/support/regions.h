// Regions of pattern bytes in every kind of memory. Used by the tests and by the processes that they start.
#pragma once

#include <cstdint>
#include <memory>

#include "ray_hixl/engine.h"

namespace ray_hixl::test {

// Where the bytes of a region lie.
enum class SourceMemory : std::uint8_t {
  kOrdinary,
  kArena,
  kSlab,    // of a device
  kDevice,  // memory of the user's own on a device
  kPinned,  // of the host
};

[[nodiscard]] Region make_region(const Engine& engine, std::uint64_t bytes, std::uint64_t seed, SourceMemory memory, std::int32_t device);

// Memory on a device that the engine knows nothing of.
struct DeviceMemory {
  MemoryRange range;
  std::shared_ptr<const void> owner;
};
[[nodiscard]] DeviceMemory device_memory(std::uint64_t bytes, std::int32_t device);

void fill(const MemoryRange& range, std::uint64_t seed);
void fill(const Region& region, std::uint64_t seed);
// Are the bytes from `offset` on the pattern's from `first` on?
[[nodiscard]] bool holds_pattern(const Region& region, std::uint64_t offset, std::uint64_t length, std::uint64_t seed,
                                 std::uint64_t first = 0);
[[nodiscard]] bool holds_pattern(const Region& region, std::uint64_t seed);
[[nodiscard]] bool holds_pattern(const MemoryRange& range, std::uint64_t seed, std::uint64_t first = 0);

}  // namespace ray_hixl::test
