#include "runtime/heap.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "runtime/calls.h"
#include "runtime/fake_cann.h"

namespace fake_cann {
namespace {

constexpr std::size_t kMostPoisoned = std::size_t{4} << 20;
constexpr std::size_t kPage = 4096;

struct Heap {
  int fd = -1;
  std::byte* view = nullptr;  // PROT_NONE
  std::byte* back_door = nullptr;
  std::size_t size = 0;
  std::mutex mutex;
  std::map<std::size_t, std::size_t> blocks;  // offset -> length; guarded by mutex, as below
  std::set<std::size_t> librarys;             // offsets of those that a library took for itself
};

struct View {
  std::size_t size = 0;
  int device = 0;
  std::size_t offset = 0;
};

struct Memory {
  std::mutex mutex;
  std::map<int, Heap*> heaps;            // by physical device; guarded by mutex, as below
  std::map<std::uintptr_t, View> views;  // by address
};

Memory& memory() {
  static Memory& instance = *new Memory;
  return instance;
}

thread_local int device_of_thread = -1;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::abort();
}

Heap* make_heap(int device) {
  auto* heap = new Heap;
  heap->size = static_cast<std::size_t>(number_switch("FAKE_CANN_HBM_MB", 8192)) << 20;
  heap->fd = ::memfd_create(("fake_cann_npu" + std::to_string(device)).c_str(), MFD_CLOEXEC);
  if (heap->fd < 0 || ::ftruncate(heap->fd, static_cast<off_t>(heap->size)) != 0) give_up("FAKE CANN: no memory for a heap");
  void* const reserved = ::mmap(nullptr, heap->size + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) give_up("FAKE CANN: no addresses for a heap");
  const auto aligned = (reinterpret_cast<std::uintptr_t>(reserved) + kHugePage - 1) / kHugePage * kHugePage;
  void* const view = ::mmap(reinterpret_cast<void*>(aligned), heap->size, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, heap->fd, 0);
  void* const back_door = ::mmap(nullptr, heap->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, heap->fd, 0);
  if (view == MAP_FAILED || back_door == MAP_FAILED) give_up("FAKE CANN: cannot map a heap");
  ::madvise(view, heap->size, MADV_DONTFORK);
  ::madvise(back_door, heap->size, MADV_DONTFORK);
  heap->view = static_cast<std::byte*>(view);
  heap->back_door = static_cast<std::byte*>(back_door);
  return heap;
}

Heap& heap_of(int device) {
  const std::lock_guard lock(memory().mutex);
  Heap*& heap = memory().heaps[device];
  if (heap == nullptr) {
    heap = make_heap(device);
    memory().views[reinterpret_cast<std::uintptr_t>(heap->view)] = {heap->size, device, 0};
  }
  return *heap;
}

// The block that holds `offset`. REQUIRES: the heap's mutex is held.
std::optional<Block> holder(const Heap& heap, int device, std::size_t offset) {
  const auto after = heap.blocks.upper_bound(offset);
  if (after == heap.blocks.begin()) return std::nullopt;
  const auto& [start, length] = *std::prev(after);
  if (offset >= start + length) return std::nullopt;
  return Block{device, start, length};
}

// The first place that fits. REQUIRES: the heap's mutex is held.
std::optional<std::size_t> take(Heap& heap, std::size_t size, std::size_t alignment) {
  std::size_t at = 0;
  for (const auto& [start, length] : heap.blocks) {
    if (size <= start && at <= start - size) break;
    at = (start + length + alignment - 1) / alignment * alignment;
  }
  if (size > heap.size || at > heap.size - size) return std::nullopt;
  heap.blocks[at] = size;
  return at;
}

struct Located {
  View view;
  std::size_t inside = 0;  // of the view
};

std::optional<Located> locate(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer);
  const std::lock_guard lock(memory().mutex);
  const auto after = memory().views.upper_bound(address);
  if (after == memory().views.begin()) return std::nullopt;
  const auto& [base, view] = *std::prev(after);
  if (address - base >= view.size) return std::nullopt;
  return Located{view, address - base};
}

std::size_t sum_heaps(std::size_t (*count)(const Heap&)) {
  std::vector<Heap*> heaps;
  {
    const std::lock_guard lock(memory().mutex);
    for (const auto& [device, heap] : memory().heaps) heaps.push_back(heap);
  }
  std::size_t sum = 0;
  for (Heap* heap : heaps) {
    const std::lock_guard lock(heap->mutex);
    sum += count(*heap);
  }
  return sum;
}

}  // namespace

// As the real runtime reads it: ascending numbers without blanks, up to the first bad one.
const std::vector<int>& visible_devices() {
  static const std::vector<int>& devices = *[] {
    auto* list = new std::vector<int>;
    const auto count = static_cast<int>(number_switch("FAKE_CANN_DEVICES", 2));
    const char* text = std::getenv("ASCEND_RT_VISIBLE_DEVICES");
    if (text == nullptr) {
      for (int device = 0; device < count; ++device) list->push_back(device);
      return list;
    }
    while (*text >= '0' && *text <= '9') {
      char* end = nullptr;
      const auto device = static_cast<int>(std::strtol(text, &end, 10));
      if (device >= count || (!list->empty() && device <= list->back())) break;
      list->push_back(device);
      if (*end != ',') break;
      text = end + 1;
    }
    return list;
  }();
  return devices;
}

int current_device() { return device_of_thread; }
void set_current_device(int device) { device_of_thread = device; }

std::optional<Block> allocate(int device, std::size_t size, std::size_t alignment) {
  Heap& heap = heap_of(device);
  const std::lock_guard lock(heap.mutex);
  const auto at = take(heap, size, alignment);
  if (!at) return std::nullopt;
  std::memset(heap.back_door + *at, 0xA5, std::min(size, kMostPoisoned));
  return Block{device, *at, size};
}

std::optional<Block> allocate_for_library(int device, std::size_t size, std::size_t alignment) {
  Heap& heap = heap_of(device);
  const std::lock_guard lock(heap.mutex);
  const auto at = take(heap, size, alignment);
  if (!at) return std::nullopt;
  heap.librarys.insert(*at);
  return Block{device, *at, size};
}

bool release(int device, std::size_t offset) {
  Heap& heap = heap_of(device);
  const std::lock_guard lock(heap.mutex);
  const auto found = heap.blocks.find(offset);
  if (found == heap.blocks.end()) return false;
  const std::size_t first = (offset + kPage - 1) / kPage * kPage;
  const std::size_t last = (offset + found->second) / kPage * kPage;
  const bool was_seen = heap.librarys.erase(offset) == 0;
  if (was_seen && last > first) {
    ::fallocate(heap.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first), static_cast<off_t>(last - first));
  }
  heap.blocks.erase(found);
  return true;
}

void* pointer_to(const Block& block) { return heap_of(block.device).view + block.offset; }

std::optional<Block> block_at(const void* pointer) {
  const auto located = locate(pointer);
  if (!located) return std::nullopt;
  Heap& heap = heap_of(located->view.device);
  const std::lock_guard lock(heap.mutex);
  return holder(heap, located->view.device, located->view.offset + located->inside);
}

std::optional<Place> find(const void* pointer, std::size_t size) {
  const auto located = locate(pointer);
  if (!located) return std::nullopt;
  Heap& heap = heap_of(located->view.device);
  Place place{located->view.device, located->view.offset + located->inside, nullptr, false};
  place.bytes = heap.back_door + place.offset;
  const std::lock_guard lock(heap.mutex);
  const auto block = holder(heap, place.device, place.offset);
  const bool in_block = block && size <= block->length - (place.offset - block->offset);
  place.live = in_block && size <= located->view.size - located->inside;
  return place;
}

bool map_view(void* address, const Block& block) {
  Heap& heap = heap_of(block.device);
  const void* mapped =
      ::mmap(address, block.length, PROT_NONE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, heap.fd, static_cast<off_t>(block.offset));
  if (mapped == MAP_FAILED) return false;
  ::madvise(address, block.length, MADV_DONTFORK);
  const std::lock_guard lock(memory().mutex);
  memory().views[reinterpret_cast<std::uintptr_t>(address)] = {block.length, block.device, block.offset};
  return true;
}

std::optional<std::size_t> unmap_view(void* address) {
  const std::lock_guard lock(memory().mutex);
  const auto found = memory().views.find(reinterpret_cast<std::uintptr_t>(address));
  if (found == memory().views.end()) return std::nullopt;
  const std::size_t size = found->second.size;
  ::mmap(address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);  // still reserved
  memory().views.erase(found);
  return size;
}

int heap_fd(int device) { return heap_of(device).fd; }

Usage usage(int device) {
  Heap& heap = heap_of(device);
  const std::lock_guard lock(heap.mutex);
  std::size_t used = 0;
  for (const auto& [offset, length] : heap.blocks) used += length;
  return {heap.size - used, heap.size};
}

std::size_t live_blocks() {
  return sum_heaps([](const Heap& heap) { return heap.blocks.size() - heap.librarys.size(); });
}

std::size_t library_blocks() {
  return sum_heaps([](const Heap& heap) { return heap.librarys.size(); });
}

}  // namespace fake_cann

extern "C" {

int fake_cann_find(const void* address, std::size_t size, int* device, std::size_t* offset) {
  const auto place = fake_cann::find(address, size);
  if (!place) return 2;
  *device = place->device;
  *offset = place->offset;
  return place->live ? 0 : 1;
}

int fake_cann_take_huge(int device, std::size_t size, std::size_t* offset) {
  const std::size_t whole = (size + fake_cann::kHugePage - 1) / fake_cann::kHugePage * fake_cann::kHugePage;
  const auto block = fake_cann::allocate_for_library(device, whole, fake_cann::kHugePage);
  if (block) *offset = block->offset;
  return block ? 0 : 1;
}

void fake_cann_give_huge_back(int device, std::size_t offset) { (void)fake_cann::release(device, offset); }

int fake_cann_heap_fd(int device) { return fake_cann::heap_fd(device); }
int fake_cann_current_device(void) { return fake_cann::current_device(); }
int fake_cann_current_physical_device(void) {
  const int device = fake_cann::current_device();
  return device < 0 ? -1 : fake_cann::visible_devices()[static_cast<std::size_t>(device)];
}
std::size_t fake_cann_live_blocks(void) { return fake_cann::live_blocks(); }
std::size_t fake_cann_library_blocks(void) { return fake_cann::library_blocks(); }

}  // extern "C"
