#include "hixl/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "hixl/json.h"

namespace fake_hixl {
namespace {

constexpr long kLastPort = 65535;

bool fill(Address& address) {
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&address.socket);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address.socket);
  if (::inet_pton(AF_INET, address.ip.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<std::uint16_t>(address.port));
    address.length = sizeof(sockaddr_in);
    return true;
  }
  if (::inet_pton(AF_INET6, address.ip.c_str(), &v6->sin6_addr) != 1) return false;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(static_cast<std::uint16_t>(address.port));
  address.length = sizeof(sockaddr_in6);
  return true;
}

}  // namespace

std::optional<Address> parse_address(const std::string& name) {
  Address address;
  address.ip = name;
  if (fill(address)) return address;  // without a port
  const std::size_t colon = name.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  const auto port = parse_number(name.substr(colon + 1));
  if (!port || *port > kLastPort) return std::nullopt;
  address.port = *port > 0 ? static_cast<int>(*port) : 0;
  address.ip = name.substr(0, colon);
  const bool bracketed = address.ip.size() > 2 && address.ip.front() == '[' && address.ip.back() == ']';
  if (bracketed) address.ip = address.ip.substr(1, address.ip.size() - 2);
  if (!fill(address) || bracketed != (address.socket.ss_family == AF_INET6)) return std::nullopt;
  return address;
}

}  // namespace fake_hixl
