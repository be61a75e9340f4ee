// Slices: where the bytes of a slot lie in its owner's memory. Keeps the slot's content alive. Immutable: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "memory/slots.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"

namespace ray_hixl::transport {

class Slices {
 public:
  // REQUIRES: the content was measured, as everything that is pinned.
  explicit Slices(std::shared_ptr<const memory::SlotContent> content) : content_(std::move(content)) {}

  // kInvalidRegion unless the slot has `length` bytes at `offset`. Any numbers will do.
  [[nodiscard]] Status check(std::uint64_t offset, std::uint64_t length) const;
  // The same, and all of them must be in host memory.
  [[nodiscard]] Status check_host(std::uint64_t offset, std::uint64_t length) const;
  // The device of the first of them in device memory; nullopt: all are in host memory. REQUIRES: check() is ok.
  [[nodiscard]] std::optional<std::int32_t> first_device(std::uint64_t offset, std::uint64_t length) const;
  // The bytes from `offset` on that lie together, at most `most` of them. REQUIRES: check(offset, 1) is ok; most > 0.
  [[nodiscard]] MemoryRange at(std::uint64_t offset, std::uint64_t most) const;

 private:
  std::shared_ptr<const memory::SlotContent> content_;
};

}  // namespace ray_hixl::transport
