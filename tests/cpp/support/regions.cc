#include "support/regions.h"

#include <cstdlib>
#include <memory>

#include "support/device_memory.h"
#include "support/pattern.h"

namespace ray_hixl::test {
namespace {

Region ordinary(const Engine& engine, std::uint64_t bytes) {
  auto memory = std::make_shared<Bytes>(bytes);
  return engine.register_memory({memory->data(), bytes}, false, memory).value();
}

MemoryRange part_of(const Region& region, std::uint64_t offset, std::uint64_t length) {
  MemoryRange range = region.range();
  range.address += offset;
  range.length = length;
  return range;
}

}  // namespace

DeviceMemory device_memory(std::uint64_t bytes, std::int32_t device) {
  constexpr std::uint64_t kHugePage = std::uint64_t{2} << 20;
  void* address = nullptr;
  const std::uint64_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  if (runtime_on(device).malloc(&address, whole, transport::hixl::kAclHugeOnly) != 0) std::abort();
  const std::shared_ptr<void> owner(address, [device](void* memory) { runtime_on(device).free(memory); });
  return {{static_cast<std::byte*>(address), bytes, MemoryKind::kDevice, device}, owner};
}

Region make_region(const Engine& engine, std::uint64_t bytes, std::uint64_t seed, SourceMemory memory, std::int32_t device) {
  const Region made = [&] {
    switch (memory) {
      case SourceMemory::kArena: return engine.allocate(bytes).value();
      case SourceMemory::kSlab: return engine.allocate(bytes, MemoryKind::kDevice, device).value();
      case SourceMemory::kPinned: return engine.allocate(bytes, MemoryKind::kPinned, device).value();
      case SourceMemory::kDevice: {
        const DeviceMemory own = device_memory(bytes, device);
        return engine.register_memory(own.range, false, own.owner).value();
      }
      default: return ordinary(engine, bytes);
    }
  }();
  fill(made, seed);
  return made;
}

void fill(const MemoryRange& range, std::uint64_t seed) {
  if (range.kind != MemoryKind::kDevice) {
    fill_pattern({range.address, range.length}, seed);
  } else {
    store(range, make_pattern(range.length, seed));
  }
}

void fill(const Region& region, std::uint64_t seed) { fill(region.range(), seed); }

bool holds_pattern(const MemoryRange& range, std::uint64_t seed, std::uint64_t first) {
  if (range.kind != MemoryKind::kDevice) return is_pattern({range.address, range.length}, seed, first);
  return is_pattern(load(range), seed, first);
}

bool holds_pattern(const Region& region, std::uint64_t offset, std::uint64_t length, std::uint64_t seed, std::uint64_t first) {
  return holds_pattern(part_of(region, offset, length), seed, first);
}

bool holds_pattern(const Region& region, std::uint64_t seed) { return holds_pattern(region.range(), seed); }

}  // namespace ray_hixl::test
