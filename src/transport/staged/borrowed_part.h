// What one request of a borrower asks for, for one device or the host, and where it goes. Loop thread only, but for the copies, which are
// made by one thread while nobody else has the part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "control/messages.h"
#include "device/staging.h"
#include "transport/mappings.h"
#include "transport/staged/parts.h"

namespace ray_hixl::transport::staged {

struct BorrowedPart {
  struct Copy {
    std::byte* to = nullptr;
    Handle source;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
  };
  std::int32_t device = kHost;
  std::vector<Copy> copies;
  std::uint64_t length = 0;
  Handle lent;
  View view;  // keeps the mapping
  const std::byte* at = nullptr;

  void add(const Copy& copy) {
    copies.push_back(copy);
    length += copy.length;
  }
  // Takes away what is behind the first `bytes`; null: nothing was.
  [[nodiscard]] std::shared_ptr<BorrowedPart> split(std::uint64_t bytes);
  [[nodiscard]] std::vector<control::ReadSpan> spans() const;
  // Keeps the segment that the owner lends it in, where it has to lie.
  [[nodiscard]] Status find_in(const View& segment, std::uint64_t offset);
  [[nodiscard]] Status copy_to_host(bool is_callers) const;
  [[nodiscard]] Status copy_to_device(device::StagingRuntime& runtime) const;
};

}  // namespace ray_hixl::transport::staged
