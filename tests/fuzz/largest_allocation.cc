#include "largest_allocation.h"

#include <cstdlib>

namespace ray_hixl {
namespace {

std::size_t g_largest = 0;

void* allocate(std::size_t size) {
  if (size > g_largest) g_largest = size;
  void* memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void reset_largest_allocation() { g_largest = 0; }
std::size_t largest_allocation() { return g_largest; }

}  // namespace ray_hixl

void* operator new(std::size_t size) { return ray_hixl::allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
