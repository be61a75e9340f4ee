#include "link/path.h"

#include <algorithm>
#include <atomic>
#include <span>

namespace ray_hixl::link {

namespace {

using Reads = Status (transport::Channel::*)(transport::RemoteMemory) const;

const Candidate* first_of(std::span<const Candidate> candidates, transport::RemoteMemory memory,
                          Reads reads = &transport::Channel::can_read) {
  const auto it = std::ranges::find_if(candidates, [&](const Candidate& c) { return c.channel && ((*c.channel).*reads)(memory).is_ok(); });
  return it == candidates.end() ? nullptr : &*it;
}

}  // namespace

std::uint64_t Paths::next_id() {
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

const Candidate* Paths::choose(transport::RemoteMemory memory) const { return first_of(candidates_, memory); }

const Candidate* Paths::choose_after(const Candidate& first, transport::RemoteMemory memory) const {
  return first_of(std::span(candidates_).subspan(static_cast<std::size_t>(&first - candidates_.data()) + 1), memory);
}

const Candidate* Paths::choose_now(transport::RemoteMemory memory) const {
  return first_of(candidates_, memory, &transport::Channel::reads_now);
}

bool Paths::needs_addresses() const {
  return std::ranges::any_of(std::array{transport::RemoteMemory::kOrdinary, transport::RemoteMemory::kSourceArena}, [&](auto memory) {
    const Candidate* chosen = choose(memory);
    return chosen != nullptr && chosen->reads_by_address;
  });
}

std::vector<std::pair<std::string, std::string>> Paths::refused(transport::RemoteMemory memory) const {
  std::vector<std::pair<std::string, std::string>> reasons;
  const Candidate* const chosen = choose_now(memory);
  for (const Candidate& candidate : candidates_) {
    if (&candidate == chosen) break;
    std::string why = candidate.channel ? candidate.channel->reads_now(memory).message() : candidate.refused;
    reasons.emplace_back(control::kind_name(candidate.kind), std::move(why));
  }
  return reasons;
}

}  // namespace ray_hixl::link
