#include "transport/mover.h"

#include <cstring>
#include <utility>

#include "memory/copy_kernels.h"

namespace ray_hixl::transport {
namespace {

class StreamingMover final : public Mover {
 public:
  explicit StreamingMover(std::shared_ptr<const void> holds) : holds_(std::move(holds)) {}
  Status move(std::span<const Copy> copies) override {
    for (const Copy& copy : copies) {
      const auto* const from = reinterpret_cast<const std::byte*>(copy.from);
      if (copy.length < kLeastStreamed) {
        std::memcpy(copy.to, from, copy.length);
      } else {
        kernel_.stream(copy.to, from, copy.length);
      }
    }
    kernel_.fence();
    return Status::ok();
  }

 private:
  static constexpr std::uint64_t kLeastStreamed = 4096;  // ends and beginnings of lines cost more than they save
  const memory::CopyKernel& kernel_ = memory::copy_kernel();
  const std::shared_ptr<const void> holds_;
};

}  // namespace

Status CacheMover::move(std::span<const Copy> copies) {
  for (const Copy& copy : copies) std::memcpy(copy.to, reinterpret_cast<const void*>(copy.from), copy.length);
  return Status::ok();
}

std::shared_ptr<Mover> memory_mover(std::shared_ptr<const void> holds, std::uint64_t bytes) {
  if (bytes <= memory::most_cached_bytes()) return std::make_shared<CacheMover>(std::move(holds));
  return std::make_shared<StreamingMover>(std::move(holds));
}

}  // namespace ray_hixl::transport
