#include "memory/available.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string_view>

namespace ray_hixl::memory {
namespace {

constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();

// Where a version of the cgroup interface keeps things.
struct Interface {
  const char* mount;
  const char* limit;
  const char* used;
  const char* reclaimable;  // a line of memory.stat: page cache that counts as used but is given up on demand
};

constexpr Interface kVersion1 = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file"};
constexpr Interface kVersion2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current", "inactive_file"};

// The number a file starts with. None for "max" and for a file that is not there.
std::optional<std::uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

// The number that follows `key` in a file of lines "key number ...".
std::optional<std::uint64_t> number_after(const std::string& path, std::string_view key) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  for (std::string word; file >> word;) {
    if (word == key && file >> number) return number;
  }
  return std::nullopt;
}

std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) { return a > kUnknown - b ? kUnknown : a + b; }

std::uint64_t left_in_machine(const std::string& root) {
  const auto available = number_after(root + "/proc/meminfo", "MemAvailable:");
  if (!available) return kUnknown;
  const std::uint64_t swap = number_after(root + "/proc/meminfo", "SwapFree:").value_or(0);
  return std::min(saturating_add(*available, swap), kUnknown / 1024) * 1024;
}

std::uint64_t left_in_group(const std::string& folder, const Interface& names) {
  const auto limit = number_in(folder + names.limit);
  const auto used = number_in(folder + names.used);
  if (!limit || !used) return kUnknown;
  const std::uint64_t reclaimable = number_after(folder + "/memory.stat", names.reclaimable).value_or(0);
  const std::uint64_t kept = *used - std::min(*used, reclaimable);
  return *limit - std::min(*limit, kept);
}

// Every parent's limit holds too. In a container the path may be one of the host, of which only the mount itself exists.
std::uint64_t left_in_groups(const std::string& root, std::string path, const Interface& names) {
  std::uint64_t left = kUnknown;
  while (true) {
    left = std::min(left, left_in_group(root + names.mount + path, names));
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return left;
    path.resize(slash);
  }
}

bool names_memory(std::string_view controllers) {
  while (!controllers.empty()) {
    const std::size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == "memory") return true;
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return false;
}

}  // namespace

std::uint64_t available_memory(const std::string& root) {
  std::uint64_t left = left_in_machine(root);
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:/path; version 2 names no controllers
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    if (controllers.empty()) left = std::min(left, left_in_groups(root, line.substr(second + 1), kVersion2));
    if (names_memory(controllers)) left = std::min(left, left_in_groups(root, line.substr(second + 1), kVersion1));
  }
  return left;
}

}  // namespace ray_hixl::memory
