// Names of engines: "ip:port", "[ip6]:port", or an address alone.
#pragma once

#include <sys/socket.h>

#include <optional>
#include <string>

namespace fake_hixl {

struct Address {
  std::string ip;
  int port = 0;  // 0: none
  sockaddr_storage socket = {};
  socklen_t length = 0;
};

// nullopt for anything but literal addresses.
[[nodiscard]] std::optional<Address> parse_address(const std::string& name);

}  // namespace fake_hixl
