// Path: which transport reads which memory of a peer, and why the others do not.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ray_hixl/status.h"
#include "transport/transport.h"

namespace ray_hixl::link {

// A transport as it turned out for one peer: a channel, or the reason why there is none.
struct Candidate {
  control::TransportKind kind{};
  bool reads_by_address = false;
  std::unique_ptr<transport::Channel> channel;  // null: refused
  std::string refused;                          // a sentence; empty if there is a channel
};

// The candidates of one peer in order of preference. Immutable once the link is up.
class Paths {
 public:
  explicit Paths(std::vector<Candidate> candidates) : candidates_(std::move(candidates)) {}

  // No other ones of this process ever have it; never 0.
  [[nodiscard]] std::uint64_t id() const { return id_; }

  // The first channel that can read such memory; null if none can.
  [[nodiscard]] const Candidate* choose(transport::RemoteMemory memory) const;
  // The same among those after `first`, one of candidates().
  [[nodiscard]] const Candidate* choose_after(const Candidate& first, transport::RemoteMemory memory) const;
  // The first that reads such memory just now: where the one of choose() turned out not to, the one after it.
  [[nodiscard]] const Candidate* choose_now(transport::RemoteMemory memory) const;
  // Does any memory take a transport that needs the owner's addresses?
  [[nodiscard]] bool needs_addresses() const;
  // Every transport before that of choose_now() (all, if there is none) with the reason why it is not taken.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> refused(transport::RemoteMemory memory) const;
  [[nodiscard]] const std::vector<Candidate>& candidates() const { return candidates_; }

 private:
  static std::uint64_t next_id();

  std::vector<Candidate> candidates_;
  std::uint64_t id_ = next_id();
};

}  // namespace ray_hixl::link
