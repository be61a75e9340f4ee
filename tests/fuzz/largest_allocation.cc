#include "largest_allocation.h"

#include <sanitizer/allocator_interface.h>

#include <algorithm>

#include "require.h"

namespace ray_hixl {
namespace {

constexpr std::size_t kBytesPerByte = 64;
constexpr std::size_t kBytesAnyway = std::size_t{64} << 10;

thread_local std::size_t largest = 0;

void on_malloc(const volatile void* /*address*/, std::size_t size) { largest = std::max(largest, size); }
void on_free(const volatile void* /*address*/) {}

}  // namespace

ModestAllocations::ModestAllocations(std::size_t input_bytes) : limit_(kBytesAnyway + kBytesPerByte * input_bytes) {
  [[maybe_unused]] static const int installed = __sanitizer_install_malloc_and_free_hooks(&on_malloc, &on_free);
  largest = 0;
}

ModestAllocations::~ModestAllocations() { require(largest <= limit_, "no allocation is far beyond the input's size"); }

}  // namespace ray_hixl
