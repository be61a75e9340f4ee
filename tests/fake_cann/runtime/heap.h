// Devices and their memory. See fake_cann.h for how it is mapped. Any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace fake_cann {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Physical numbers of the devices that this process sees; their index here is the number that callers use.
const std::vector<int>& visible_devices();

// The calling thread's device (an index into visible_devices()); -1 without a context.
int current_device();
void set_current_device(int device);

struct Block {
  int device = 0;  // physical
  std::size_t offset = 0;
  std::size_t length = 0;
};

// Bytes of device memory, as device code sees them.
struct Place {
  int device = 0;          // physical
  std::size_t offset = 0;  // in its heap
  std::byte* bytes = nullptr;
  bool live = false;  // wholly inside of one allocation
};

// Takes `size` bytes of a physical device; poisoned, so that nobody relies on zeros. nullopt when there is no room.
[[nodiscard]] std::optional<Block> allocate(int device, std::size_t size, std::size_t alignment);
// The same for a library's own use: not poisoned, and counted apart.
[[nodiscard]] std::optional<Block> allocate_for_library(int device, std::size_t size, std::size_t alignment);
// The pages go back at once: whoever still reads there gets zeros. False if no allocation starts there.
[[nodiscard]] bool release(int device, std::size_t offset);
// The device pointer of a block, in the heap's own view.
[[nodiscard]] void* pointer_to(const Block& block);
// The live allocation that holds a device pointer.
[[nodiscard]] std::optional<Block> block_at(const void* pointer);

// Where a device pointer points; nullopt for anything else.
[[nodiscard]] std::optional<Place> find(const void* pointer, std::size_t size);
// Further views of blocks, at addresses that the caller reserved (virtual memory management).
[[nodiscard]] bool map_view(void* address, const Block& block);
[[nodiscard]] std::optional<std::size_t> unmap_view(void* address);

[[nodiscard]] int heap_fd(int device);
struct Usage {
  std::size_t free = 0;
  std::size_t total = 0;
};
[[nodiscard]] Usage usage(int device);
[[nodiscard]] std::size_t live_blocks();
[[nodiscard]] std::size_t library_blocks();

}  // namespace fake_cann
