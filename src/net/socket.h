// Sockets: listening, connecting and accepting, all non-blocking and close-on-exec. TCP, and Unix stream sockets with abstract names.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/fd.h"
#include "ray_hixl/status.h"

namespace ray_hixl::net {

// host: an IPv4 or IPv6 address in text; never a wildcard address.
struct TcpAddress {
  std::string host;
  std::uint16_t port = 0;
};

// Listens on an ephemeral port of `host`; the socket stays open, so the port stays ours. kInvalidArgument for names and wildcards.
[[nodiscard]] Result<Fd> listen_tcp(const std::string& host);
[[nodiscard]] Result<std::uint16_t> local_port(const Fd& socket);
// An abstract name (no file), visible in this network namespace only.
[[nodiscard]] Result<Fd> listen_unix(const std::string& abstract_name);

// Starts connecting; the result becomes writable when it is connected or failed: then ask finish_connect. kNotAvailable: the listener is
// there, but its queue is full (Unix): try again in a moment. kOutOfMemory: no descriptor is left here.
// kPeerGone, from either: the connection was refused, for nobody listens there.
[[nodiscard]] Result<Fd> start_connect_tcp(const TcpAddress& address);
[[nodiscard]] Result<Fd> start_connect_unix(const std::string& abstract_name);
[[nodiscard]] Status finish_connect(const Fd& socket);

// The next waiting connection; nullopt when there is none. Sets TCP_NODELAY on TCP.
[[nodiscard]] Result<std::optional<Fd>> accept_connection(const Fd& listener);

// Unix sockets: the process at the other end when it connected, or began to listen (SO_PEERCRED).
struct PeerProcess {
  std::uint32_t pid = 0;  // as this process sees it; 0 if it is in a pid namespace that this one does not see
  std::uint32_t uid = 0;
};
[[nodiscard]] Result<PeerProcess> peer_process(const Fd& socket);
[[nodiscard]] bool is_unix(const Fd& socket);
// Lets the kernel notice a dead host: keep-alive probes, and unacknowledged data ends the connection after `seconds`. TCP only.
[[nodiscard]] Status set_dead_peer_timeout(const Fd& socket, double seconds);

}  // namespace ray_hixl::net
