// CheckedCopy: copies memory of this process that may not be mapped (any more) without a signal: through a pipe, so that the kernel reads
// it.
//
// process_vm_readv would do it, too, but takes the lock of this process's mappings, behind whoever maps or unmaps much just then, and
// sandboxes that refuse it may do so by killing. One thread at a time.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/fd.h"
#include "ray_hixl/status.h"

namespace ray_hixl::transport::stream {

class CheckedCopy {
 public:
  static constexpr std::uint64_t kMost = std::uint64_t{16} << 10;  // a pipe holds more, but those of a user who has many
  static constexpr std::size_t kMostVectors = 16;

  // Puts `from`, whose bytes are as many as `into` has, one after another there. False, with anything there, if they could not all be
  // copied. REQUIRES: at most kMost bytes in kMostVectors pieces.
  [[nodiscard]] bool copy(std::span<const iovec> from, std::span<std::byte> into);

  // Takes the descriptors (two) that copy() would take at its first call. kOutOfMemory if there are none.
  Status open();
  // Gives them back.
  void close();

 private:
  Fd in_;
  Fd out_;  // both are non-blocking, and the pipe is empty between calls
};

}  // namespace ray_hixl::transport::stream
