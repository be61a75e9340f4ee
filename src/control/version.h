// What both sides of a connection must have alike, and what they may have in common.
#pragma once

#include <cstdint>

namespace ray_hixl::control {

// Of the handshake and of every message. Both sides must have the same: see docs/protocol.md, "Versions".
inline constexpr std::uint16_t kProtocolVersion = 2;

// One bit for each thing that a side can do beyond the messages of this version. The hello and the welcome carry them; only what both
// sides can do is used, and bits that this version does not know are ignored.
using Capabilities = std::uint64_t;
inline constexpr Capabilities kOwnCapabilities = 0;  // no bit is defined yet

}  // namespace ray_hixl::control
