#include "link/split.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "memory/slots.h"

namespace ray_hixl::link {
namespace {

using transport::RemoteMemory;

// May a channel find out only when it moves such memory that it cannot?
bool may_turn_out(const Candidate& channel, RemoteMemory memory) {
  if (memory == RemoteMemory::kOrdinary) return channel.reads_by_address;
  return memory == RemoteMemory::kDevice || memory == RemoteMemory::kPinned;
}

RemoteMemory memory_of(const transport::DevicePlace& place, bool pins) {
  if (pins && place.hixl >= 0) return RemoteMemory::kPinned;
  if (place.is_host()) return RemoteMemory::kOrdinary;
  return place.across ? RemoteMemory::kAcross : RemoteMemory::kDevice;
}

class Splitter {
 public:
  Splitter(FlightHost& host, const transport::Plan& plan, const Resolutions* resolutions, SplitTerms terms)
      : host_(host), plan_(plan), resolutions_(resolutions), terms_(terms), shares_(host.paths().candidates().size()) {
    chosen_[static_cast<std::size_t>(RemoteMemory::kPinned)] = terms.pins;
  }

  Status add(const transport::Piece& piece) {
    const RemoteMemory memory =
        piece.place < 0 ? RemoteMemory::kOrdinary : memory_of(plan_.places[static_cast<std::size_t>(piece.place)], terms_.pins != nullptr);
    const bool by_range = resolutions_ != nullptr && transport::is_host(memory);
    return by_range ? add_by_range(piece) : add(piece, memory);
  }

  Shares take() {
    for (const auto& share : shares_) {
      if (share && share->pieces.capacity() > 2 * share->pieces.size()) share->pieces.shrink_to_fit();  // it may be kept
    }
    Shares shares(shares_.begin(), shares_.end());
    for (auto& share : shares) {
      if (share && share->pieces.size() > transport::kFewPieces) share = host_.reaper().off_loop(std::move(share));
    }
    return shares;
  }

 private:
  Status add_by_range(const transport::Piece& piece) {
    const Resolution& resolution = *(*resolutions_)[piece.source];
    if (piece.offset > resolution.length || piece.length > resolution.length - piece.offset) {
      return Status(Code::kInvalidRegion, std::to_string(piece.length) + " bytes at offset " + std::to_string(piece.offset) +
                                              " lie outside of the " + std::to_string(resolution.length) + " bytes that the " +
                                              host_.peer_name() + " registered");
    }
    transport::Piece rest = piece;
    for (std::size_t i = memory::range_at(resolution.starts, piece.offset); rest.length > 0; ++i) {
      if (resolution.ranges[i].address == 0) {
        return Status(Code::kInvalidRegion,
                      "the bytes lie in device memory of the " + host_.peer_name() + ", and cannot be read into host memory");
      }
      const std::uint64_t skipped = rest.offset - resolution.starts[i];
      transport::Piece part = rest;
      part.address = resolution.ranges[i].address + skipped;
      part.length = std::min(rest.length, resolution.ranges[i].length - skipped);
      RAY_HIXL_RETURN_IF_ERROR(add(part, resolution.memory_at(part.address)));
      rest.local += part.length;
      rest.offset += part.length;
      rest.length -= part.length;
    }
    return Status::ok();
  }

  Status add(const transport::Piece& piece, RemoteMemory memory) {
    const Candidate*& chosen = chosen_[static_cast<std::size_t>(memory)];
    if (chosen == nullptr) chosen = choose(memory);
    if (chosen == nullptr) return host_.no_path(memory);
    std::shared_ptr<transport::Share>& share = shares_[static_cast<std::size_t>(chosen - host_.paths().candidates().data())];
    if (!share) share = new_share(*chosen);
    share->has_another_way = share->has_another_way && may_turn_out(*chosen, memory);
    share->pieces.push_back(piece);
    return Status::ok();
  }

  // What moved it as pinned memory was never asked for it as what it is otherwise.
  [[nodiscard]] const Candidate* choose(RemoteMemory memory) const {
    const bool was_tried = terms_.after != nullptr && terms_.after->channel->can_read(memory).is_ok();
    return was_tried ? host_.choose_after(*terms_.after, memory) : host_.choose(memory);
  }

  [[nodiscard]] std::shared_ptr<transport::Share> new_share(const Candidate& chosen) const {
    auto share = std::make_shared<transport::Share>();
    share->pieces.reserve(plan_.pieces.size());
    share->has_another_way = has_another_way(chosen);
    share->hosts_have_another_way = host_.choose(RemoteMemory::kOrdinary) != nullptr;
    if (!chosen.reads_by_address) return share;
    for (const auto& resolution : *resolutions_) {
      share->segments.insert(share->segments.end(), resolution->segments.begin(), resolution->segments.end());
    }
    return share;
  }

  // Where `chosen` turns out not to move what it may turn out not to: for all places of such memory.
  [[nodiscard]] bool has_another_way(const Candidate& chosen) const {
    if (chosen.reads_by_address) return host_.choose_after(chosen, RemoteMemory::kOwnersOnly) != nullptr;
    const Splitter next(host_, plan_, resolutions_, {nullptr, &chosen});
    return std::ranges::all_of(plan_.places, [&](const transport::DevicePlace& place) {
      return !may_turn_out(chosen, memory_of(place, terms_.pins != nullptr)) || next.choose(memory_of(place, false)) != nullptr;
    });
  }

  FlightHost& host_;
  const transport::Plan& plan_;
  const Resolutions* const resolutions_;
  const SplitTerms terms_;
  std::vector<std::shared_ptr<transport::Share>> shares_;
  std::array<const Candidate*, transport::kRemoteMemories> chosen_{};  // for such memory; null: not asked yet
};

}  // namespace

std::shared_ptr<const Known> known_of(const transport::Plan& plan) { return std::static_pointer_cast<const Known>(plan.kept.get()); }

bool reads_host_memory(const transport::Plan& plan) {
  return std::ranges::any_of(plan.pieces, [&](const transport::Piece& piece) {
    return piece.place < 0 || plan.places[static_cast<std::size_t>(piece.place)].is_host();
  });
}

Result<Shares> split(FlightHost& host, const transport::Plan& plan, const Resolutions* resolutions,
                     const std::vector<transport::Piece>& pieces, SplitTerms terms) {
  Splitter splitter(host, plan, resolutions, terms);
  for (const transport::Piece& piece : pieces) RAY_HIXL_RETURN_IF_ERROR(splitter.add(piece));
  return splitter.take();
}

std::shared_ptr<const Known> split_now(FlightHost& host, const transport::Plan& plan) {
  if (!plan.places.empty() || plan.pieces.size() > transport::kFewPieces) return nullptr;
  std::shared_ptr<Resolutions> resolutions;
  if (host.paths().needs_addresses()) {
    resolutions = std::make_shared<Resolutions>();
    for (const Handle& source : plan.sources) {
      resolutions->push_back(host.resolver().remembered(source));
      if (!resolutions->back()) return nullptr;
    }
  }
  Result<Shares> shares = split(host, plan, resolutions.get(), plan.pieces, {});
  if (!shares.is_ok()) return nullptr;
  const auto known = std::make_shared<const Known>(Known{resolutions, host.paths().id(), *std::move(shares)});
  if (!plan.once) plan.kept.set(known);
  return known;
}

}  // namespace ray_hixl::link
