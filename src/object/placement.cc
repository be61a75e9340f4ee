#include "object/placement.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <string>
#include <utility>

#include "control/messages.h"

namespace ray_hixl {
namespace {

// The next multiple of a power of two; wraps around at the end.
std::uint64_t align_up(std::uint64_t address, std::uint64_t alignment) { return (address + alignment - 1) & ~(alignment - 1); }

// False when the multiple does not fit.
bool align(std::uint64_t& address, std::uint64_t alignment) {
  if (__builtin_add_overflow(address, alignment - 1, &address)) return false;
  address &= ~(alignment - 1);
  return true;
}

// Moves `next`, where the next tensor begins, past `count` tensors of `bytes` bytes. False when it does not fit.
bool skip(std::uint64_t& next, std::uint64_t count, std::uint64_t bytes, std::uint64_t alignment) {
  if (bytes == 0) return true;
  if (__builtin_add_overflow(next, bytes, &next) || !align(next, alignment)) return false;
  std::uint64_t step = bytes;  // of those behind it, which begin at a multiple
  std::uint64_t rest = 0;
  return align(step, alignment) && !__builtin_mul_overflow(count - 1, step, &rest) && !__builtin_add_overflow(next, rest, &next);
}

Status bad_placement(std::size_t index, const std::string& what) {
  return Status(Code::kInvalidArgument, "placement " + std::to_string(index) + ": " + what);
}

Status check_numbers(std::size_t index, const Metadata::Placement& placement) {
  if (placement.device < 0 || static_cast<std::uint32_t>(placement.device) >= control::kDevices)
    return bad_placement(index, "a device index is below " + std::to_string(control::kDevices));
  if (!std::has_single_bit(placement.alignment) || placement.alignment > kMostAlignment) {
    return bad_placement(index, "an alignment is a power of two of at most " + std::to_string(kMostAlignment) + ", not " +
                                    std::to_string(placement.alignment));
  }
  return Status::ok();
}

}  // namespace

void PlacementBuilder::add(std::uint64_t tensor, std::uint64_t bytes, std::int32_t device, std::uint64_t epoch, std::uint64_t address) {
  if (run_.count != 0 && tensor != run_.first + run_.count) finish();
  if (bytes != 0 && has_place() && !follows(device, epoch, address)) finish();
  if (run_.count == 0) {
    run_.first = tensor;
    run_.device = device;
  }
  ++run_.count;
  if (bytes == 0) return;
  if (!has_place()) {
    run_.device = device;
    run_.epoch = epoch;
    run_.address = address;
  }
  end_ = address + bytes;
}

// Could a tensor there be the next of the run? Decides its alignment if only one is possible.
bool PlacementBuilder::follows(std::int32_t device, std::uint64_t epoch, std::uint64_t address) {
  if (device != run_.device || epoch != run_.epoch) return false;
  if (is_decided_) return address == align_up(end_, run_.alignment);
  const bool is_adjacent = address == end_;
  const bool is_packed = address == align_up(end_, kPackedAlignment);
  is_decided_ = is_adjacent != is_packed;
  if (is_decided_) run_.alignment = is_packed ? kPackedAlignment : 1;
  return is_adjacent || is_packed;
}

void PlacementBuilder::finish() {
  if (run_.count != 0) done_.push_back(run_);
  run_ = {};
  is_decided_ = false;
}

std::vector<Metadata::Placement> PlacementBuilder::take() {
  finish();
  return std::exchange(done_, {});
}

Status check_placements(std::span<const Layout> layouts, std::span<const Metadata::Run> runs,
                        std::span<const Metadata::Placement> placements) {
  const std::uint64_t tensors = runs.empty() ? 0 : runs.back().first + runs.back().count;
  std::uint64_t end = 0;  // of the placement before
  auto run = runs.begin();
  for (std::size_t i = 0; i < placements.size(); ++i) {
    const Metadata::Placement& placement = placements[i];
    RAY_HIXL_RETURN_IF_ERROR(check_numbers(i, placement));
    if (placement.first < end || placement.first >= tensors || placement.count == 0 || placement.count > tensors - placement.first)
      return bad_placement(i, "it is empty, names a tensor that there is not, or one that has a place already");
    end = placement.first + placement.count;
    std::uint64_t next = placement.address;
    for (std::uint64_t tensor = placement.first; tensor < end;) {
      while (run->first + run->count <= tensor) ++run;
      const std::uint64_t count = std::min(end, run->first + run->count) - tensor;
      const std::uint64_t bytes = layouts[run->layout].bytes();
      if (bytes != 0 && placement.address == 0) return bad_placement(i, "it has no address");
      if (!skip(next, count, bytes, placement.alignment)) return bad_placement(i, "an address does not fit 64 bits");
      tensor += count;
    }
  }
  return Status::ok();
}

void visit_placement(const Metadata& metadata, const Metadata::Placement& placement,
                     const std::function<void(std::uint64_t tensor, std::uint64_t address)>& visit) {
  const std::uint64_t end = placement.first + placement.count;
  std::uint64_t next = placement.address;
  auto run = std::prev(std::ranges::upper_bound(metadata.runs(), placement.first, {}, &Metadata::Run::first));
  for (std::uint64_t tensor = placement.first; tensor < end; ++run) {
    const std::uint64_t bytes = metadata.layouts()[run->layout].bytes();
    for (const std::uint64_t run_end = std::min(end, run->first + run->count); tensor < run_end; ++tensor) {
      visit(tensor, next);
      if (bytes != 0) next = align_up(next + bytes, placement.alignment);
    }
  }
}

}  // namespace ray_hixl
