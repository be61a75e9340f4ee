// How the links of a device share it: its slots, and the places of the links themselves. Who came first comes first.
#include <algorithm>

#include "transport/hixl/driver/driver.h"

namespace ray_hixl::transport::hixl {

// Links that want to read share what there is.
bool Driver::has_room(std::size_t mine) const {
  std::size_t all = 0;
  std::size_t sharing = 0;
  for (const auto& [name, remote] : remotes_) {
    all += remote->requests().size();
    if (remote->wants_room()) ++sharing;
  }
  return all < setup_.most_requests && mine < std::max<std::size_t>(1, setup_.most_requests / std::max<std::size_t>(1, sharing));
}

// Others that are linked, or have waited longer, come first.
bool Driver::has_turn(const Remote& remote) const {
  const auto comes_before = [&](const auto& each) {
    return each.second->linked() || (each.second->wants_link() && each.second->turn() < remote.turn());
  };
  return static_cast<std::size_t>(std::ranges::count_if(remotes_, comes_before)) < setup_.most_links;
}

// For each that waits and that no free place is left for, one goes down: what nobody has used for longest, else what has had its turn,
// which ends what HIXL has of it first. That may take long, so that an unused one goes down in its place if there is one meanwhile.
void Driver::give_turns() {
  if (quieting_ || closing_) return;
  std::size_t taken = 0;
  std::size_t ending = 0;
  for (const Remote* const each : by_turn_) {
    const bool is_ending = each->is_leaving() && !each->requests().empty();
    if (is_ending) ++ending;
    if (is_ending || (each->linked() && !each->is_leaving())) ++taken;
  }
  for (const Remote* const waiting : by_turn_) {
    if (!waiting->wants_link() || taken++ < setup_.most_links) continue;
    if (Remote* const unused = least_recently_used()) {
      unused->yield();
    } else if (ending > 0) {
      --ending;
    } else if (Remote* const busy = longest_busy(waiting->turn())) {
      busy->yield();
    }
  }
}

Remote* Driver::least_recently_used() const {
  Remote* found = nullptr;
  for (const auto& [name, remote] : remotes_) {
    if (!remote->is_unused()) continue;
    if (found == nullptr || remote->unused_until().when() < found->unused_until().when()) found = remote.get();
  }
  return found;
}

// Of those that have had their time, and were given something after the one began to wait that has this turn.
Remote* Driver::longest_busy(std::uint64_t turn) const {
  Remote* found = nullptr;
  for (const auto& [name, remote] : remotes_) {
    if (!remote->may_yield() || !remote->turn_end().passed() || remote->turn() < turn) continue;
    if (found == nullptr || remote->turn_end().when() < found->turn_end().when()) found = remote.get();
  }
  return found;
}

bool Driver::make_room() {
  if (Remote* const unused = least_recently_used()) unused->yield();
  return has_links();
}

Status Driver::no_turn() const {
  return Status(Code::kTransferTimeout, "all " + std::to_string(setup_.most_links) + " links of " + device::npu_name(setup_.device) +
                                            " were in use (hixl_max_links). Give the transfer more time, or the NPU more links");
}

Status Driver::no_room() const {
  return Status(Code::kTransferTimeout, "all " + std::to_string(setup_.most_requests) + " slots of HIXL on " +
                                            device::npu_name(setup_.device) +
                                            " were in use (hixl_max_active_channels). Give the transfer more time, or the NPU more slots");
}

}  // namespace ray_hixl::transport::hixl
