// Memory of devices and pinned memory of the host.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "runtime/calls.h"
#include "runtime/fake_cann.h"
#include "runtime/heap.h"

using namespace fake_cann;

namespace {

constexpr std::size_t kSmall = std::size_t{1} << 20;  // up to here HUGE_FIRST takes normal pages
constexpr std::size_t kSmallAlignment = 512;
constexpr int kPolicyMask = 0xff;
constexpr std::size_t kPage = 4096;

constexpr std::uint32_t kMapped = 0x2, kIoMemory = 0x4, kReadOnly = 0x8, kPinned = 0x10000000;  // flags of aclrtHostRegisterV2

using Ranges = std::map<std::uintptr_t, std::size_t>;  // by where they start

struct HostMemory {
  std::mutex mutex;
  Ranges blocks;      // of aclrtMallocHost; guarded by mutex, as
  Ranges registered;  // memory of others
};

bool holds(const Ranges& ranges, const void* address, std::size_t size) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const auto after = ranges.upper_bound(at);
  if (after == ranges.begin()) return false;
  const auto& [start, length] = *std::prev(after);
  return at - start < length && size <= length - (at - start);
}

bool overlaps(const Ranges& ranges, std::uintptr_t at, std::size_t size) {
  const auto after = ranges.lower_bound(at + size);
  return after != ranges.begin() && std::prev(after)->first + std::prev(after)->second > at;
}

HostMemory& host_memory() {
  static HostMemory& instance = *new HostMemory;
  return instance;
}

// 0 if none starts there.
std::size_t host_size(const void* pointer) {
  const std::lock_guard lock(host_memory().mutex);
  const auto found = host_memory().blocks.find(reinterpret_cast<std::uintptr_t>(pointer));
  return found == host_memory().blocks.end() ? 0 : found->second;
}

int physical(int visible) { return visible_devices()[static_cast<std::size_t>(visible)]; }

int visible_index(int device) {
  for (std::size_t index = 0; index < visible_devices().size(); ++index) {
    if (visible_devices()[index] == device) return static_cast<int>(index);
  }
  return 0;
}

// As torch_npu and the driver lay it out: 28 bytes.
struct PointerAttributes {
  std::uint32_t id = 0;
  std::uint32_t location = kUnregistered;
  std::uint32_t page_size = 0;
  std::uint32_t reserved[4] = {};
};
static_assert(sizeof(PointerAttributes) == 28);

bool is_huge(const Block& block) { return block.offset % kHugePage == 0 && block.length % kHugePage == 0; }

int malloc_device(const char* name, void** pointer, std::size_t size, int policy) {
  if (size == 0) return fail(kBadParameter, std::string(name) + " of 0 bytes");
  trace("  policy " + std::to_string(policy) + " size " + std::to_string(size));
  const bool huge = size > kSmall || (policy & kPolicyMask) == kHugeOnly;
  const std::size_t alignment = huge ? kHugePage : kSmallAlignment;
  const std::size_t whole = (size + alignment - 1) / alignment * alignment;
  const auto block = allocate(physical(current_device()), whole, alignment);
  if (!block) return fail(kOutOfMemory, std::string(name) + ": out of device memory, " + std::to_string(size) + " bytes were asked for");
  *pointer = pointer_to(*block);
  return kOk;
}

}  // namespace

extern "C" {

int fake_cann_is_pinned_host(const void* address, std::size_t size) {
  const std::lock_guard lock(host_memory().mutex);
  return holds(host_memory().blocks, address, size) ? 1 : 0;
}

int fake_cann_is_registered_host(const void* address, std::size_t size) {
  const std::lock_guard lock(host_memory().mutex);
  return holds(host_memory().registered, address, size) ? 1 : 0;
}

std::size_t fake_cann_registered_hosts(void) {
  const std::lock_guard lock(host_memory().mutex);
  return host_memory().registered.size();
}

int fake_cann_is_huge(const void* address) {
  const auto block = block_at(address);
  return block && is_huge(*block) ? 1 : 0;
}

int aclrtMalloc(void** pointer, std::size_t size, int policy) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  return malloc_device(__func__, pointer, size, policy);
}

int aclrtMallocAlign32(void** pointer, std::size_t size, int policy) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  return malloc_device(__func__, pointer, size, policy);
}

int aclrtMallocWithCfg(void** pointer, std::size_t size, int policy, void*) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  return malloc_device(__func__, pointer, size, policy);
}

// At once, even under running work, as the real one.
int aclrtFree(void* pointer) {
  FAKE_CANN_ENTER();
  const auto block = block_at(pointer);
  const bool is_whole = block && pointer_to(*block) == pointer;
  if (is_whole) memory_goes(block->device, block->offset, block->length);
  if (is_whole && release(block->device, block->offset)) return kOk;
  return fail(kBadParameter, "aclrtFree: not an address that aclrtMalloc gave");
}

int aclrtMallocHost(void** pointer, std::size_t size) {
  FAKE_CANN_ENTER();
  const std::size_t whole = (size + kPage - 1) / kPage * kPage;
  *pointer = std::aligned_alloc(kPage, whole);
  if (*pointer == nullptr) return fail(kOutOfMemory, "aclrtMallocHost: no memory");
  std::memset(*pointer, 0x5A, whole);
  const std::lock_guard lock(host_memory().mutex);
  host_memory().blocks[reinterpret_cast<std::uintptr_t>(*pointer)] = whole;
  return kOk;
}

int aclrtMallocHostWithCfg(void** pointer, std::uint64_t size, void*) { return aclrtMallocHost(pointer, size); }

int aclrtFreeHost(void* pointer) {
  FAKE_CANN_ENTER();
  memory_goes(-1, reinterpret_cast<std::size_t>(pointer), host_size(pointer));
  {
    const std::lock_guard lock(host_memory().mutex);
    if (host_memory().blocks.erase(reinterpret_cast<std::uintptr_t>(pointer)) == 0) {
      return fail(kBadParameter, "aclrtFreeHost: not an address that aclrtMallocHost gave");
    }
  }
  std::free(pointer);
  return kOk;
}

// Of memory that its owner keeps mapped until he takes it back.
int aclrtHostRegisterV2(void* pointer, std::uint64_t size, std::uint32_t flags) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  const auto at = reinterpret_cast<std::uintptr_t>(pointer);
  if (pointer == nullptr || size == 0 || at % kPage != 0) return fail(kBadParameter, "aclrtHostRegisterV2: not whole pages");
  if (flags == 0 || (flags & ~(kMapped | kIoMemory | kReadOnly | kPinned)) != 0) {
    return fail(kBadParameter, "aclrtHostRegisterV2: flags " + std::to_string(flags));
  }
  if (block_at(pointer)) return fail(kBadParameter, "aclrtHostRegisterV2: device memory");
  const std::lock_guard lock(host_memory().mutex);
  if (overlaps(host_memory().registered, at, size) || overlaps(host_memory().blocks, at, size)) {
    return fail(kHostAlreadyRegistered, "aclrtHostRegisterV2: some of it is pinned already");
  }
  host_memory().registered[at] = size;
  return kOk;
}

int aclrtHostUnregister(void* pointer) {
  FAKE_CANN_ENTER();
  const std::lock_guard lock(host_memory().mutex);
  if (host_memory().registered.erase(reinterpret_cast<std::uintptr_t>(pointer)) == 1) return kOk;
  return fail(kHostNotRegistered, "aclrtHostUnregister: not an address that aclrtHostRegisterV2 took");
}

int aclrtPointerGetAttributes(const void* pointer, PointerAttributes* attributes) {
  FAKE_CANN_ENTER();
  *attributes = {};
  if (const auto block = block_at(pointer)) {
    attributes->id = static_cast<std::uint32_t>(visible_index(block->device));
    attributes->location = kDevice;
    attributes->page_size = is_huge(*block) ? kHugePage : kPage;
  } else if (fake_cann_is_pinned_host(pointer, 1) != 0 || fake_cann_is_registered_host(pointer, 1) != 0) {
    attributes->location = kHostPinned;
  }
  return kOk;
}

int aclrtMemGetAddressRange(void* pointer, void** base, std::size_t* size) {
  FAKE_CANN_ENTER();
  const auto block = block_at(pointer);
  if (!block) return fail(kBadParameter, "aclrtMemGetAddressRange: not device memory");
  *base = pointer_to(*block);
  *size = block->length;
  return kOk;
}

int aclrtGetMemInfo(int, std::size_t* free_bytes, std::size_t* total) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  const Usage now = usage(physical(current_device()));
  *free_bytes = now.free;
  *total = now.total;
  return kOk;
}

}  // extern "C"
