// What a fuzz target asserts.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace ray_hixl {

inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", what);
  std::abort();
}

}  // namespace ray_hixl
