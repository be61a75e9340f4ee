#include "transport/staged/host_copy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "support/few_descriptors.h"
#include "support/pattern.h"

namespace ray_hixl::transport::staged {
namespace {

// The kernel's own data, which it maps as a driver maps what it pins; null where there is none.
const std::byte* memory_of_a_driver() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (!line.ends_with("[vvar]")) continue;
    return reinterpret_cast<const std::byte*>(std::stoull(line, nullptr, 16));
  }
  return nullptr;
}

TEST(HostCopy, copies_both_ways) {
  std::vector<std::byte> memory(100'000);
  test::fill_pattern(memory, 4);
  std::vector<std::byte> buffer(memory.size());
  EXPECT_TRUE(copy_from_host(buffer.data(), memory.data(), memory.size()).is_ok());
  EXPECT_TRUE(test::is_pattern(buffer, 4));
  std::memset(memory.data(), 0, memory.size());
  EXPECT_TRUE(copy_to_host(memory.data(), buffer.data(), memory.size()).is_ok());
  EXPECT_TRUE(test::is_pattern(memory, 4));
}

TEST(HostCopy, says_what_is_not_mapped) {
  std::array<std::byte, 64> buffer{};
  auto* const gone = static_cast<std::byte*>(::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  EXPECT_EQ(copy_from_host(buffer.data(), gone, buffer.size()).code(), Code::kInvalidRegion);
  EXPECT_EQ(copy_to_host(gone, buffer.data(), buffer.size()).code(), Code::kInvalidRegion);
  ::munmap(gone, 4096);
}

TEST(HostCopy, takes_memory_that_a_driver_has_mapped) {
  const std::byte* const memory = memory_of_a_driver();
  if (memory == nullptr) GTEST_SKIP() << "this kernel maps no data of its own";
  std::array<std::byte, 64> buffer{};
  EXPECT_TRUE(copy_from_host(buffer.data(), memory, buffer.size()).is_ok());
}

TEST(HostCopy, says_that_it_has_no_descriptors_to_look_with) {
  const std::byte* const memory = memory_of_a_driver();
  if (memory == nullptr) GTEST_SKIP() << "this kernel maps no data of its own";
  std::array<std::byte, 64> buffer{};
  Status status;
  {
    const test::FewDescriptors one(1);
    status = copy_from_host(buffer.data(), memory, buffer.size());
  }
  EXPECT_EQ(status.code(), Code::kOutOfMemory);
  EXPECT_THAT(status.message(), testing::HasSubstr("ulimit -n"));
}

}  // namespace
}  // namespace ray_hixl::transport::staged
