// max_active_channels: the slots that all links of the process share while they have requests. Any thread.
#pragma once

#include "hixl/errors.h"

namespace fake_hixl {

// An engine comes: the slots are made for the first one, and another number is a bad parameter while any lives. (Whether the real library
// keeps them until the process ends is not known.)
[[nodiscard]] Status attach_slots(long count);
void detach_slots();

[[nodiscard]] bool take_slot();
void give_slot_back();

}  // namespace fake_hixl
