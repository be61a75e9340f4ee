#include "transport/hixl/cann/ports.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <span>

#include "base/fd.h"
#include "base/random.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::uint32_t kMostLooks = 256;

// The size of what it wrote; 0: no IP address.
socklen_t socket_address(const std::string& host, std::uint16_t port, sockaddr_storage& storage) {
  auto& v4 = reinterpret_cast<sockaddr_in&>(storage);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    return sizeof(v4);
  }
  if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) != 1) return 0;
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  return sizeof(v6);
}

}  // namespace

// As HIXL binds it: what an ended connection left behind does not count.
bool is_taken(const std::string& host, std::uint16_t port) {
  sockaddr_storage storage{};
  const socklen_t length = socket_address(host, port, storage);
  if (length == 0) return false;
  const Fd probe = Fd::make([&] { return ::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0); });
  if (!probe) return false;
  const int on = 1;
  (void)::setsockopt(probe.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  return ::bind(probe.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0 && errno == EADDRINUSE;
}

std::optional<Ports> draw_ports(const std::string& host, const PortRange& range) {
  std::uint32_t random[2];
  fill_random(std::as_writable_bytes(std::span(random)));
  const std::uint32_t count = std::uint32_t{range.last} - range.first + 1;
  const auto port = [&](std::uint32_t index) { return static_cast<std::uint16_t>(range.first + index % count); };
  for (std::uint32_t look = 0; look < std::min(count, kMostLooks); ++look) {
    const std::uint32_t index = random[0] % count + look;
    if (!is_taken(host, port(index))) return Ports{port(index), port(index + 1 + random[1] % (count - 1))};
  }
  return std::nullopt;
}

}  // namespace ray_hixl::transport::hixl
