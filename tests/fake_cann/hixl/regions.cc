#include "hixl/regions.h"

#include <algorithm>

#include "hixl/switches.h"
#include "runtime/fake_cann.h"

namespace fake_hixl {
namespace {

using hixl::kParamInvalid;
using hixl::kSuccess;

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::string describe(const Region& region) {
  return std::to_string(region.length) + " bytes of " + (region.kind == hixl::kMemDevice ? "device" : "host") + " memory";
}

Status refuse(const Region& region, const std::string& why) {
  return fail(kParamInvalid, "RegisterMem of " + describe(region) + ": " + why);
}

bool overlap(std::uintptr_t start, std::size_t length, std::uintptr_t other, std::size_t other_length) {
  return start < other + other_length && other < start + length;
}

}  // namespace

Snapshot::Snapshot(std::vector<Region> regions) : regions_(std::move(regions)) {
  std::ranges::sort(regions_, {}, &Region::address);
  std::uintptr_t end = 0;  // of what is covered so far
  for (std::size_t index = 0; index < regions_.size(); ++index) {
    const Region& region = regions_[index];
    const std::uintptr_t start = std::max(region.address, end);
    if (region.address + region.length <= start) continue;
    end = region.address + region.length;
    parts_[start] = {end, index};
  }
}

std::vector<Snapshot::Piece> Snapshot::find(std::uintptr_t address, std::size_t length) const {
  if (address + length < address) return {};
  std::vector<Piece> pieces;
  const std::uintptr_t end = address + length;
  for (std::uintptr_t at = address; at < end;) {
    const auto after = parts_.upper_bound(at);
    if (after == parts_.begin()) return {};
    const Part& part = std::prev(after)->second;
    if (at >= part.end) return {};
    const Region& region = regions_[part.region];
    pieces.push_back({&region, at - region.address, std::min(end, part.end) - at});
    at += pieces.back().length;
  }
  return pieces;
}

RegionTable::~RegionTable() {
  for (const auto& region : regions_) drop_key(region->key);
}

// Where the memory is. The real library finds out later, or never.
Status RegionTable::locate(Region& region) const {
  int device = -1;
  const int found = fake_cann_find(reinterpret_cast<const void*>(region.address), region.length, &device, &region.offset);
  if (region.kind == hixl::kMemDevice) {
    if (found != 0) return refuse(region, "it is not inside of one live device allocation");
    if (device != device_) return refuse(region, "it is on another device than the engine");
    region.device = device;
    const bool is_aligned = region.address % kHugePage == 0 && fake_cann_is_huge(reinterpret_cast<const void*>(region.address)) == 1;
    if (!is_aligned && number_switch("FAKE_HIXL_REQUIRE_ALIGNED", 0) != 0) return refuse(region, "not aligned to and on pages of 2 MiB");
    return kSuccess;
  }
  if (found != 2) return refuse(region, "it is on a device");
  const bool is_pinned = fake_cann_is_pinned_host(reinterpret_cast<const void*>(region.address), region.length) == 1;
  return is_pinned || soc_ == Soc::k950 ? kSuccess : refuse(region, "it is not from aclrtMallocHost");
}

Status RegionTable::add(const hixl::MemDesc& memory, hixl::MemType kind, hixl::MemHandle& handle) {
  Region region{memory.addr, memory.len, kind, -1, 0, {}};
  if (region.address == 0) return fail(kParamInvalid, "RegisterMem of a null address");
  if (kind != hixl::kMemDevice && kind != hixl::kMemHost) return fail(kParamInvalid, "RegisterMem of a kind that is none");
  if (region.address + region.length < region.address) return refuse(region, "its end overflows");
  if (const Status status = locate(region); status != kSuccess) return status;
  if (!accepts_memory(endpoints_, kind, soc_)) return refuse(region, "no endpoint takes such memory");
  const std::lock_guard lock(mutex_);
  for (const auto& other : regions_) {
    if (!rules_.knows_duplicates || other->kind != kind) continue;
    const bool overlaps = overlap(region.address, region.length, other->address, other->length);
    if (overlaps && !own_keys().is_valid(other->key)) return refuse(region, "a region is still registered there whose memory was freed");
    if (other->address == region.address && other->length == region.length) {
      handle = other.get();  // not counted: one DeregisterMem ends it for all
      return kSuccess;
    }
    if (overlaps) return refuse(region, "it overlaps a registered region");
  }
  region.key = make_key();
  handle = regions_.emplace_back(std::make_unique<Region>(region)).get();
  return kSuccess;
}

void RegionTable::remove(hixl::MemHandle handle) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(regions_, handle, &std::unique_ptr<Region>::get);
  if (found == regions_.end()) return;
  drop_key((*found)->key);
  regions_.erase(found);
}

std::vector<Region> RegionTable::list() {
  const std::lock_guard lock(mutex_);
  std::vector<Region> regions;
  regions.reserve(regions_.size());
  for (const auto& region : regions_) regions.push_back(*region);
  return regions;
}

std::size_t RegionTable::size() {
  const std::lock_guard lock(mutex_);
  return regions_.size();
}

bool RegionTable::memory_goes(int device, std::size_t offset, std::size_t size) {
  const std::lock_guard lock(mutex_);
  bool any = false;
  for (const auto& region : regions_) {
    const std::uintptr_t start = device < 0 ? region->address : region->offset;
    if (region->device != device || !overlap(start, region->length, offset, size)) continue;
    revoke_key(region->key);
    any = true;
  }
  return any;
}

}  // namespace fake_hixl
