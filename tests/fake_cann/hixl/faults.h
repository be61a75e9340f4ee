// What the switches do to a transfer and to a Connect. Any thread.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "hixl/errors.h"

namespace fake_hixl {

struct Fate {
  std::chrono::microseconds delay{0};
  Status call = hixl::kSuccess;  // otherwise the call itself answers this, and nothing moves
  bool fails = false;            // nothing moves, and the poll says FAILED together with `poll`
  Status poll = hixl::kSuccess;
  bool drops_link = false;
  bool garbles = false;
  bool is_short = false;
  bool never_ends = false;
  bool dies = false;
  std::optional<std::chrono::milliseconds> late;  // bytes that should not have moved do so after all
  bool late_past_disconnect = false;
};

// Of a transfer that is asked for now.
[[nodiscard]] Fate next_fate();
// Is a Connect that begins now refused?
[[nodiscard]] bool next_connect_is_refused();
[[nodiscard]] std::chrono::milliseconds connect_delay(const std::string& remote);
[[nodiscard]] std::chrono::milliseconds disconnect_delay(const std::string& remote);
// How much longer it takes to free the thread of a slot that is aborted, and how long after that the caller goes on.
[[nodiscard]] std::chrono::milliseconds abort_hold();
[[nodiscard]] std::chrono::milliseconds abort_gap();
// How long each stage of a Connect takes in addition.
[[nodiscard]] std::chrono::milliseconds stage_delay();
// Why an Initialize that is called now fails; empty if it does not.
[[nodiscard]] std::string next_initialize_failure();
// How long a transfer to a dead peer lasts.
[[nodiscard]] std::chrono::milliseconds retry_window();

}  // namespace fake_hixl
