#include "memory/available.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "support/sizes.h"

namespace ray_hixl::memory {
namespace {

using test::kMiB;

// A folder that looks like the kernel's files.
class Available : public ::testing::Test {
 protected:
  Available() {
    std::string name = ::testing::TempDir() + "availableXXXXXX";
    root_ = ::mkdtemp(name.data());
  }
  ~Available() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = root_ + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  void write(const std::string& path, std::uint64_t number) { write(path, std::to_string(number) + "\n"); }
  void machine_has(std::uint64_t bytes) {
    write("/proc/meminfo", "MemTotal: 999 kB\nMemAvailable:   " + std::to_string(bytes / 1024) + " kB\nSwapFree: 0 kB\n");
  }
  std::uint64_t available() { return available_memory(root_); }

 private:
  std::string root_;
};

TEST(AvailableMemory, this_machine_has_some) {
  EXPECT_GT(available_memory(), kMiB);
  EXPECT_LT(available_memory(), std::numeric_limits<std::uint64_t>::max() / 1024);
}

TEST_F(Available, nothing_known_is_no_limit) { EXPECT_EQ(available(), std::numeric_limits<std::uint64_t>::max()); }

TEST_F(Available, without_groups_the_machine_counts_with_its_swap) {
  write("/proc/meminfo", "MemTotal:  100 kB\nMemFree: 5 kB\nMemAvailable:  70 kB\nSwapTotal: 50 kB\nSwapFree: 30 kB\n");
  EXPECT_EQ(available(), 100U * 1024);
}

TEST_F(Available, a_group_of_version_2_grants_its_limit_less_what_cannot_be_reclaimed) {
  machine_has(1000 * kMiB);
  write("/proc/self/cgroup", "0::/pod\n");
  write("/sys/fs/cgroup/pod/memory.max", 100 * kMiB);
  write("/sys/fs/cgroup/pod/memory.current", 60 * kMiB);
  write("/sys/fs/cgroup/pod/memory.stat", "anon 1\ninactive_anon 5\ninactive_file " + std::to_string(20 * kMiB) + "\n");
  EXPECT_EQ(available(), 60 * kMiB);
}

TEST_F(Available, the_limits_of_parents_hold_too) {
  machine_has(1000 * kMiB);
  write("/proc/self/cgroup", "0::/pod/container\n");
  write("/sys/fs/cgroup/pod/container/memory.max", "max\n");
  write("/sys/fs/cgroup/pod/container/memory.current", 10 * kMiB);
  write("/sys/fs/cgroup/pod/memory.max", 50 * kMiB);
  write("/sys/fs/cgroup/pod/memory.current", 20 * kMiB);
  EXPECT_EQ(available(), 30 * kMiB);
}

TEST_F(Available, in_a_container_with_a_path_of_the_host_the_mount_itself_counts) {
  machine_has(1000 * kMiB);
  write("/proc/self/cgroup", "5:cpu,cpuacct:/docker/abc\n4:hugetlb,memory:/docker/abc\n0::/\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", 80 * kMiB);
  write("/sys/fs/cgroup/memory/memory.usage_in_bytes", 50 * kMiB);
  write("/sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file " + std::to_string(5 * kMiB) + "\n");
  EXPECT_EQ(available(), 35 * kMiB);
}

TEST_F(Available, the_machine_counts_where_groups_grant_more) {
  machine_has(10 * kMiB);
  write("/proc/self/cgroup", "4:memory:/\n");
  write("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  write("/sys/fs/cgroup/memory/memory.usage_in_bytes", 1 * kMiB);
  EXPECT_EQ(available(), 10 * kMiB);
}

TEST_F(Available, a_group_over_its_limit_grants_nothing) {
  machine_has(10 * kMiB);
  write("/proc/self/cgroup", "0::/\n");
  write("/sys/fs/cgroup/memory.max", 5 * kMiB);
  write("/sys/fs/cgroup/memory.current", 6 * kMiB);
  EXPECT_EQ(available(), 0U);
}

TEST_F(Available, garbage_is_no_limit) {
  machine_has(10 * kMiB);
  write("/proc/self/cgroup", "\n:\nnonsense\n0:\n:::\n");
  write("/sys/fs/cgroup/memory.max", "many\n");
  EXPECT_EQ(available(), 10 * kMiB);
}

}  // namespace
}  // namespace ray_hixl::memory
