// In what the two engines of HIXL differ.
#pragma once

#include <cstddef>

#include "hixl/api.h"
#include "hixl/flavour.h"

namespace fake_hixl {

enum class Kind { kHixlEngine, kCommEngine };

struct Rules {
  Kind kind = Kind::kHixlEngine;
  // Registration.
  bool knows_duplicates = true;        // the same region again is the same handle; overlaps are refused
  bool guards_deregistration = true;   // not while an outbound link is up
  bool unregistered_is_fatal = false;  // a transfer outside of the registered regions breaks the link; otherwise it is a bad parameter
  bool refuses_empty_descriptors = true;
  // Links.
  bool names_are_identities = false;  // the name a peer is called by must be its own; a client's name must be its own alone
  bool refuses_same_device = false;
  bool serialises_connect = false;  // in the whole process, and time-outs count in whole seconds
  std::size_t most_channels = 0;    // inbound and outbound ones of an engine; 0: any number
  bool uses_slots = true;           // max_active_channels
  bool times_stages = true;         // a Connect has several stages, and each has the whole time-out
  // Requests.
  bool latches = true;                      // after a failure the link is dead
  bool any_unknown_status_latches = false;  // even raw codes of the runtime
  bool polls_batches = true;
  bool forgets_on_disconnect = true;  // a poll afterwards is a bad parameter; otherwise it says that the link is gone
  bool numbers_requests = false;      // handles are counted; otherwise they are addresses, which come again
};

[[nodiscard]] Rules rules_of(Kind kind, Flavour flavour);

// Whether a transfer that ended so leaves the link dead.
[[nodiscard]] bool breaks_link(const Rules& rules, hixl::Status status);

}  // namespace fake_hixl
