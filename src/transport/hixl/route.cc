#include "transport/hixl/route.h"

#include <algorithm>
#include <string>

#include "device/slabs.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::uintptr_t kPadding = device::Slabs::kAlignment;

class RouteMaker {
 public:
  RouteMaker(bool pads, const FindLocal& find_local) : pads_(pads), find_local_(find_local) {}

  void add(const Ends& ends, std::byte* local, std::uint64_t epoch, std::uint64_t remote, std::uint64_t length) {
    Draft& draft = find(ends);
    Route& route = draft.route;
    const bool is_same_here = draft.local.holds(local, length);
    const bool is_same_there = draft.epoch == epoch;
    if (!is_same_here) draft.local = find_local_(ends.local, local, length).value_or(Registered{});
    draft.epoch = epoch;
    route.remote_epoch = std::max(route.remote_epoch, epoch);
    route.local_epoch = std::max(route.local_epoch, draft.local.epoch);
    route.bytes += length;
    const auto to = reinterpret_cast<std::uintptr_t>(local);
    if (is_same_here && is_same_there && !route.ops.empty() && extends(route.ops.back(), to, remote)) {
      OpDesc& last = route.ops.back();
      last.length = to + length - last.local;
    } else {
      route.ops.push_back({to, remote, length});
    }
  }

  [[nodiscard]] std::vector<Route> take() {
    std::vector<Route> routes;
    for (Draft& draft : drafts_) routes.push_back(std::move(draft.route));
    return routes;
  }

 private:
  struct Draft {
    Route route;
    Registered local;         // of the last op; empty where HIXL does not know it
    std::uint64_t epoch = 0;  // names the peer's registration of the last op
  };

  Draft& find(const Ends& ends) {
    for (Draft& draft : drafts_) {
      if (static_cast<const Ends&>(draft.route) == ends) return draft;
    }
    drafts_.emplace_back();
    static_cast<Ends&>(drafts_.back().route) = ends;
    return drafts_.back();
  }

  // Directly behind the last op on both sides, or behind the same padding on both where the padding here is the plan's.
  [[nodiscard]] bool extends(const OpDesc& last, std::uintptr_t to, std::uintptr_t from) const {
    const std::uintptr_t gap = to - (last.local + last.length);
    if (from - (last.remote + last.length) != gap) return false;
    return gap == 0 || (pads_ && gap < kPadding && to % kPadding == 0);
  }

  const bool pads_;
  const FindLocal& find_local_;
  std::vector<Draft> drafts_;
};

Ends ends_of(const DevicePlace& place, std::int32_t remote) {
  if (place.hixl < 0) return {place.local, remote, false, false};
  const bool host_here = place.local < 0;
  return {place.hixl, remote, host_here, host_here != place.across};
}

// Adds a piece whose place the peer told by ranges; one op for each range that it touches.
Status add_located(RouteMaker& routes, const DevicePlace& place, const Piece& piece, const control::Located& located) {
  auto range = std::ranges::upper_bound(located.ranges, piece.offset, {}, &control::DeviceRange::offset);
  std::uint64_t done = 0;
  if (range != located.ranges.begin()) --range;
  for (; range != located.ranges.end() && done < piece.length; ++range) {
    const std::uint64_t at = piece.offset + done;
    if (at < range->offset || at - range->offset >= range->length) break;
    const std::uint64_t skipped = at - range->offset;
    const std::uint64_t length = std::min(piece.length - done, range->length - skipped);
    const Ends ends = ends_of(place, static_cast<std::int32_t>(range->device));
    routes.add(ends, piece.local + done, range->epoch, range->address + skipped, length);
    done += length;
  }
  if (done == piece.length) return Status::ok();
  return Status(Code::kInvalidRegion, std::to_string(piece.length) + " bytes at offset " + std::to_string(piece.offset) +
                                          " do not lie in memory that the peer registered with HIXL");
}

}  // namespace

Result<std::vector<Route>> make_routes(const Plan& plan, const std::vector<Piece>& pieces, const std::vector<Locator::Ranges>& located,
                                       const FindLocal& find_local) {
  RouteMaker routes(plan.pads, find_local);
  for (const Piece& piece : pieces) {
    const DevicePlace& place = plan.places[static_cast<std::size_t>(piece.place)];
    if (place.remote >= 0) {
      routes.add(ends_of(place, place.remote), piece.local, place.epoch, piece.address, piece.length);
    } else {
      RAY_HIXL_RETURN_IF_ERROR(add_located(routes, place, piece, *located[piece.source]));
    }
  }
  return routes.take();
}

}  // namespace ray_hixl::transport::hixl
