#include "hixl/rules.h"

namespace fake_hixl {

Rules rules_of(Kind kind, Flavour flavour) {
  Rules rules;
  if (kind == Kind::kHixlEngine) {
    rules.latches = flavour != Flavour::k92Beta1;
    return rules;
  }
  rules.kind = kind;
  rules.knows_duplicates = false;  // HCCL decides, and is not known to mind
  rules.guards_deregistration = false;
  rules.unregistered_is_fatal = true;
  rules.refuses_empty_descriptors = false;
  rules.names_are_identities = true;
  rules.refuses_same_device = true;
  rules.serialises_connect = true;
  rules.most_channels = 512;
  rules.uses_slots = false;
  rules.times_stages = false;
  rules.any_unknown_status_latches = true;
  rules.polls_batches = false;
  rules.forgets_on_disconnect = false;
  rules.numbers_requests = true;
  return rules;
}

bool breaks_link(const Rules& rules, hixl::Status status) {
  if (!rules.latches) return false;
  if (!rules.any_unknown_status_latches) return status == hixl::kFailed || status == hixl::kTimeout;
  switch (status) {
    case hixl::kSuccess:
    case hixl::kParamInvalid:
    case hixl::kNotConnected:
    case hixl::kAlreadyConnected:
    case hixl::kUnsupported:
    case hixl::kResourceExhausted: return false;
    default: return true;
  }
}

}  // namespace fake_hixl
