// For as long as they live, this process can have only so many files open.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"

namespace ray_hixl::test {

// So many in all.
class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    if (::getrlimit(RLIMIT_NOFILE, &before_) != 0) std::abort();
    const rlimit lower{limit, before_.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &lower) != 0) std::abort();
  }
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit before_{};
};

// So many more than there are.
class FewDescriptors {
 public:
  explicit FewDescriptors(int spare) {
    int highest = 0;
    for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
      highest = std::max(highest, std::stoi(each.path().filename().string()));
    }
    do {  // fills the holes below
      plugs_.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    } while (plugs_.back().get() < highest);
    limit_.emplace(static_cast<rlim_t>(std::max(highest, plugs_.back().get()) + 1 + spare));
  }

 private:
  std::vector<Fd> plugs_;
  std::optional<DescriptorLimit> limit_;
};

}  // namespace ray_hixl::test
