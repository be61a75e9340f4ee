// The ports that HIXL listens on. It binds them itself and cannot take any that is free, so others choose for it and look first: a start
// that fails for a port keeps what it took until the process ends.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ray_hixl/options.h"

namespace ray_hixl::transport::hixl {

struct Ports {
  std::uint16_t host = 0;    // of the TCP listener
  std::uint16_t device = 0;  // of the listener on the device's own NIC
};

// Does somebody have that TCP port of an IP address of this host? No where that cannot be told.
[[nodiscard]] bool is_taken(const std::string& host, std::uint16_t port);
// Two different ones of the range, drawn at random: the host's is free just now, the device's cannot be looked at. nullopt where none of
// the many that were looked at is free.
[[nodiscard]] std::optional<Ports> draw_ports(const std::string& host, const PortRange& range);

}  // namespace ray_hixl::transport::hixl
