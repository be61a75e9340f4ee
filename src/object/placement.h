// Placements: where the tensors of an object lie in device memory; how they are made, checked and read.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "ray_hixl/objects.h"
#include "ray_hixl/status.h"

namespace ray_hixl {

inline constexpr std::uint64_t kPackedAlignment = 512;  // of tensors that are laid out behind each other for one object
inline constexpr std::uint64_t kMostAlignment = 4096;   // of any placement

// Collects where device tensors lie, merging neighbours into placements.
//
// Neighbours have consecutive indices, one device and one epoch, and addresses that follow each other with one alignment: 1 (exactly
// adjacent) or kPackedAlignment. The first pair that only one of them explains decides for its placement. Not synchronised.
class PlacementBuilder {
 public:
  // REQUIRES: ascending `tensor`; 0 <= device < 2^16; address not 0 unless bytes is. A tensor without bytes breaks nothing, whatever its
  // device, epoch and address: it goes with the neighbour before it, else with the one behind it. If it has neither, its placement has no
  // address.
  void add(std::uint64_t tensor, std::uint64_t bytes, std::int32_t device, std::uint64_t epoch, std::uint64_t address);
  // What was collected; the builder is empty again.
  [[nodiscard]] std::vector<Metadata::Placement> take();

 private:
  [[nodiscard]] bool has_place() const { return run_.address != 0; }
  [[nodiscard]] bool follows(std::int32_t device, std::uint64_t epoch, std::uint64_t address);
  void finish();

  std::vector<Metadata::Placement> done_;
  Metadata::Placement run_;  // count 0: none is open; address 0: no tensor in it has bytes yet
  std::uint64_t end_ = 0;    // of the last tensor with bytes in it
  bool is_decided_ = false;  // is its alignment?
};

// kInvalidArgument if an index is out of bounds, a tensor has two places, a number is outside of its limits or an address overflows.
// REQUIRES: check_layouts(), check_runs().
[[nodiscard]] Status check_placements(std::span<const Layout> layouts, std::span<const Metadata::Run> runs,
                                      std::span<const Metadata::Placement> placements);

// Calls visit(tensor, address) for each tensor of one of the metadata's placements, in order. The address of a tensor without bytes is
// where the next one would begin.
void visit_placement(const Metadata& metadata, const Metadata::Placement& placement,
                     const std::function<void(std::uint64_t tensor, std::uint64_t address)>& visit);

}  // namespace ray_hixl
