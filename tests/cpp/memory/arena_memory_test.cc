#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "base/thread.h"
#include "memory/blocks.h"

namespace {

thread_local bool there_is_none = false;  // memory, for this thread

}  // namespace

void* operator new(std::size_t bytes) {
  void* const memory = there_is_none ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace ray_hixl::memory {
namespace {

// Whoever failed in between would leave bytes that everybody waits for.
TEST(ArenaMemory, what_is_unmapped_takes_no_memory) {
  std::vector<std::shared_ptr<const void>> left;
  const auto arena =
      Arena::create(ArenaKind::kLanding, 0, [&](std::shared_ptr<const void> leftover) { left.push_back(std::move(leftover)); });
  int retired = 0;
  arena->set_retired([&](std::uint32_t) { ++retired; });
  std::vector<BlockPtr> blocks;
  for (int i = 0; i < 3; ++i) blocks.push_back(allocate(arena, kSegment));
  std::thread([&] {
    become_event_loop();
    blocks.clear();
  }).join();
  EXPECT_GT(arena->stats().mapped_bytes, 0U);
  there_is_none = true;
  left.clear();
  there_is_none = false;
  EXPECT_EQ(arena->stats().mapped_bytes, 0U);
  EXPECT_EQ(retired, 3);
}

}  // namespace
}  // namespace ray_hixl::memory
