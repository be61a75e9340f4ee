#include "transport/shm/prepared.h"

#include <algorithm>
#include <utility>

namespace ray_hixl::transport::shm {
namespace {

using Segments = std::vector<control::RemoteSegment>;

// The segments' indices in the order of their addresses, for find_segments().
std::vector<std::size_t> by_address(const Segments& segments) {
  std::vector<std::size_t> order(segments.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::sort(order, {}, [&](std::size_t i) { return segments[i].base; });
  return order;
}

bool holds(const control::RemoteSegment& segment, const Piece& piece) {
  return piece.address >= segment.base && piece.address - segment.base <= segment.length &&
         piece.length <= segment.length - (piece.address - segment.base);
}

}  // namespace

std::shared_ptr<const void> Prepared::hold() const {
  if (views.size() == 1) return views.front().lock();
  auto held = std::make_shared<std::vector<View>>();
  held->reserve(views.size());
  for (const auto& view : views) {
    held->push_back(view.lock());
    if (!held->back()) return nullptr;
  }
  return held;
}

std::shared_ptr<const Prepared> prepared_of(const Share& share) { return std::static_pointer_cast<const Prepared>(share.kept.get()); }

Result<std::vector<std::size_t>> find_segments(const Share& share) {
  const std::vector<std::size_t> order = by_address(share.segments);
  std::vector<std::size_t> found;
  found.reserve(share.pieces.size());
  for (const Piece& piece : share.pieces) {
    const auto behind = std::ranges::upper_bound(order, piece.address, {}, [&](std::size_t i) { return share.segments[i].base; });
    if (behind == order.begin() || !holds(share.segments[*(behind - 1)], piece)) {
      return Status(Code::kInternal, "memory outside of the peer's source arena was to be read by shm");
    }
    found.push_back(*(behind - 1));
  }
  return found;
}

std::set<std::uint32_t> ids_of(const Share& share, const std::vector<std::size_t>& segment_of) {
  std::set<std::uint32_t> ids;
  for (const std::size_t index : segment_of) ids.insert(share.segments[index].id);
  return ids;
}

Result<std::shared_ptr<const Prepared>> prepare(const Share& share, const std::vector<std::size_t>& segment_of, const Views& views,
                                                const Puller& puller) {
  std::vector<const memory::SegmentView*> view_of(share.segments.size());  // by the index of its segment
  for (std::size_t i = 0; i < share.segments.size(); ++i) {
    const auto view = views.find(share.segments[i].id);
    if (view == views.end()) continue;
    if (view->second->length() != share.segments[i].length) {
      return Status(Code::kInternal, "the peer's segment has another length than the peer said");
    }
    view_of[i] = view->second.get();
  }
  std::vector<Copy> copies;
  copies.reserve(share.pieces.size());
  for (std::size_t i = 0; i < share.pieces.size(); ++i) {
    const Piece& piece = share.pieces[i];
    const std::byte* const base = view_of[segment_of[i]]->base();
    copies.push_back(
        {piece.local, reinterpret_cast<std::uint64_t>(base + (piece.address - share.segments[segment_of[i]].base)), piece.length});
  }
  const auto prepared = std::make_shared<Prepared>();
  for (const auto& [id, view] : views) prepared->views.push_back(view);
  prepared->copies = puller.cut(std::move(copies));
  share.kept.set(prepared);
  return std::shared_ptr<const Prepared>(prepared);
}

}  // namespace ray_hixl::transport::shm
