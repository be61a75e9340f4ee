// Mover: how copies are carried out. Those within this process are here; cma has one for the memory of another.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "ray_hixl/status.h"
#include "transport/copies.h"

namespace ray_hixl::transport {

// Moves some copies, all of them or an error. Called from several threads at once.
class Mover {
 public:
  virtual ~Mover() = default;
  [[nodiscard]] virtual Status move(std::span<const Copy> copies) = 0;
};

// Copies within this process, through the caches. Keeps `holds` (pins, mappings) for as long as it may copy.
class CacheMover final : public Mover {
 public:
  explicit CacheMover(std::shared_ptr<const void> holds) : holds_(std::move(holds)) {}
  [[nodiscard]] Status move(std::span<const Copy> copies) override;

 private:
  const std::shared_ptr<const void> holds_;
};

// The same, or around the caches, as suits so many bytes in all.
[[nodiscard]] std::shared_ptr<Mover> memory_mover(std::shared_ptr<const void> holds, std::uint64_t bytes);

}  // namespace ray_hixl::transport
