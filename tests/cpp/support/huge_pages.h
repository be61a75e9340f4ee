// What the kernel does about huge pages for shared memory here, seen without the code under test.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

#include "base/fd.h"

namespace ray_hixl::test {

inline constexpr int kCollapse = 25;  // MADV_COLLAPSE

// Does this kernel make huge pages of shared memory when it is asked to?
[[nodiscard]] inline bool kernel_gives_huge_pages() {
  constexpr std::uintptr_t kHuge = std::uintptr_t{2} << 20;
  const Fd fd(::memfd_create("test", MFD_CLOEXEC));
  if (::ftruncate(fd.get(), kHuge) != 0) return false;
  void* const place = ::mmap(nullptr, 2 * kHuge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return false;
  auto* const begin = reinterpret_cast<std::byte*>((reinterpret_cast<std::uintptr_t>(place) + kHuge - 1) / kHuge * kHuge);
  if (::mmap(begin, kHuge, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd.get(), 0) == MAP_FAILED) return false;
  *begin = std::byte{1};
  const bool given = ::madvise(begin, kHuge, kCollapse) == 0;
  ::munmap(place, 2 * kHuge);
  return given;
}

// Bytes of the mapping that begins at `base` which the page table of this process has as huge pages.
[[nodiscard]] inline std::uint64_t huge_bytes_at(const std::byte* base) {
  std::ifstream smaps("/proc/self/smaps");
  bool is_it = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    std::uint64_t kib = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &begin, &end) == 2) is_it = begin == reinterpret_cast<std::uintptr_t>(base);
    if (is_it && std::sscanf(line.c_str(), "ShmemPmdMapped: %lu kB", &kib) == 1) return kib << 10;
  }
  return 0;
}

}  // namespace ray_hixl::test
