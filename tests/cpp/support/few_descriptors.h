// FewDescriptors: for as long as it lives this process can open only so many more files.
#pragma once

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "base/fd.h"

namespace ray_hixl::test {

class FewDescriptors {
 public:
  explicit FewDescriptors(int spare) {
    if (::getrlimit(RLIMIT_NOFILE, &before_) != 0) std::abort();
    int highest = 0;
    for (const auto& each : std::filesystem::directory_iterator("/proc/self/fd")) {
      highest = std::max(highest, std::stoi(each.path().filename().string()));
    }
    do {  // fills the holes below
      plugs_.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    } while (plugs_.back().get() < highest);
    const int next = std::max(highest, plugs_.back().get()) + 1;
    const rlimit few{static_cast<rlim_t>(next + spare), before_.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &few) != 0) std::abort();
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
  std::vector<Fd> plugs_;
};

}  // namespace ray_hixl::test
