// Virtual memory management: what torch_npu's expandable segments use.
#include <sys/mman.h>

#include <cstdint>
#include <memory>

#include "runtime/calls.h"
#include "runtime/heap.h"

using namespace fake_cann;

namespace {

constexpr std::size_t kDeviceInProperties = 3;  // the fourth 32-bit field: location.id

Block& block_of(void* handle) { return *static_cast<Block*>(handle); }

}  // namespace

extern "C" {

int aclrtReserveMemAddress(void** pointer, std::size_t size, std::size_t, void*, std::uint64_t) {
  FAKE_CANN_ENTER();
  void* const reserved = ::mmap(nullptr, size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return fail(kOutOfMemory, "aclrtReserveMemAddress: no addresses");
  *pointer = reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(reserved) + kHugePage - 1) / kHugePage * kHugePage);
  return kOk;
}

// The addresses stay reserved: nothing else of the process can come to lie where somebody still has a device pointer.
int aclrtReleaseMemAddress(void*) {
  FAKE_CANN_ENTER();
  return kOk;
}

int aclrtMallocPhysical(void** handle, std::size_t size, const std::uint32_t* properties, std::uint64_t) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  const std::uint32_t device = properties[kDeviceInProperties];
  if (size % kHugePage != 0) return fail(kBadParameter, "aclrtMallocPhysical: the size is no multiple of 2 MiB");
  if (device >= visible_devices().size()) return fail(kBadDevice, "aclrtMallocPhysical: no such device");
  const auto block = allocate(visible_devices()[device], size, kHugePage);
  if (!block) return fail(kOutOfMemory, "aclrtMallocPhysical: out of device memory");
  *handle = new Block(*block);
  return kOk;
}

int aclrtFreePhysical(void* handle) {
  FAKE_CANN_ENTER();
  const std::unique_ptr<Block> block(&block_of(handle));
  memory_goes(block->device, block->offset, block->length);
  return release(block->device, block->offset) ? static_cast<int>(kOk) : fail(kBadParameter, "aclrtFreePhysical: freed twice");
}

int aclrtMapMem(void* address, std::size_t size, std::size_t offset, void* handle, std::uint64_t) {
  FAKE_CANN_ENTER();
  Block block = block_of(handle);
  if (size > block.length || offset != 0) return fail(kBadParameter, "aclrtMapMem: more than the physical memory has");
  block.length = size;
  return map_view(address, block) ? static_cast<int>(kOk) : fail(kOutOfMemory, "aclrtMapMem: cannot map");
}

int aclrtUnmapMem(void* address) {
  FAKE_CANN_ENTER();
  if (const auto block = block_at(address)) memory_goes(block->device, block->offset, block->length);
  return unmap_view(address) ? static_cast<int>(kOk) : fail(kBadParameter, "aclrtUnmapMem: nothing is mapped there");
}

int aclrtMemGetAllocationGranularity(void*, int, std::size_t* granularity) {
  FAKE_CANN_ENTER();
  *granularity = kHugePage;
  return kOk;
}

}  // extern "C"
