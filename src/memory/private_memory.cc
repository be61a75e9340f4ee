#include "memory/private_memory.h"

#include <sys/mman.h>

#include <string>

#include "base/fd.h"
#include "memory/available.h"

namespace ray_hixl::memory {

Result<std::byte*> PrivateMemory::take(std::uint64_t length) {
  const std::string what = "taking " + std::to_string(length >> 10) + " KiB of private memory";
  const std::uint64_t available = available_memory();
  if (length > available) {
    return Status(Code::kOutOfMemory, what + ": " + std::to_string(available >> 10) +
                                          " KiB are available to this process. Free tensors, or end forked children that keep them");
  }
  void* const address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return errno_status(Code::kOutOfMemory, what);
  return static_cast<std::byte*>(address);
}

void PrivateMemory::give_back(std::byte* address, std::uint64_t length) noexcept { ::munmap(address, length); }

}  // namespace ray_hixl::memory
