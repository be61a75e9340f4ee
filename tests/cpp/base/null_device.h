// Descriptors to make and to look for.
#pragma once

#include <fcntl.h>

#include "base/fd.h"

namespace ray_hixl {

inline Fd open_null() {
  return Fd::make([] { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); });
}
inline bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

}  // namespace ray_hixl
