#include "net/socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstring>

namespace ray_hixl::net {
namespace {

constexpr int kBacklog = 4096;  // the kernel takes less where net.core.somaxconn says so

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Result<SocketAddress> tcp_address(const std::string& host, std::uint16_t port) {
  SocketAddress address;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1 && v4->sin_addr.s_addr != INADDR_ANY) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.length = sizeof(sockaddr_in);
    return address;
  }
  address.storage = {};
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1 && !IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr)) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.length = sizeof(sockaddr_in6);
    return address;
  }
  return Status(Code::kInvalidArgument, "'" + host + "' is not the IPv4 or IPv6 address of one interface");
}

Result<SocketAddress> unix_address(const std::string& abstract_name) {
  SocketAddress address;
  auto* un = reinterpret_cast<sockaddr_un*>(&address.storage);
  if (abstract_name.empty() || abstract_name.size() + 1 > sizeof(un->sun_path)) {
    return Status(Code::kInvalidArgument, "an abstract socket name has 1 to 107 bytes");
  }
  un->sun_family = AF_UNIX;  // sun_path starts with a zero byte: abstract
  std::memcpy(un->sun_path + 1, abstract_name.data(), abstract_name.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + abstract_name.size());
  return address;
}

Result<Fd> new_socket(int family) {
  Fd socket = Fd::make([family] { return ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); });
  if (!socket) return errno_status(Code::kOutOfMemory, "cannot create a socket");
  return socket;
}

void set_no_delay(const Fd& socket) {
  const int on = 1;
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));  // fails on Unix sockets, which have no delay
}

Result<Fd> listen_at(const SocketAddress& address, const std::string& where) {
  Result<Fd> socket = new_socket(address.storage.ss_family);
  if (!socket.is_ok()) return socket;
  if (::bind(socket->get(), address.get(), address.length) != 0) {
    if (errno == EADDRNOTAVAIL) return Status(Code::kInvalidArgument, "cannot bind to " + where + ": no interface here has this address");
    return errno_status(Code::kConnectError, "cannot bind to " + where);
  }
  if (::listen(socket->get(), kBacklog) != 0) return errno_status(Code::kConnectError, "cannot listen on " + where);
  return socket;
}

Status connect_error(int error) {
  if (error == ECONNREFUSED) return {Code::kPeerGone, "nobody listens there"};
  errno = error;
  return errno_status(Code::kConnectError, "it cannot be reached");
}

Result<Fd> start_connect(const SocketAddress& address, const std::string& where) {
  Result<Fd> socket = new_socket(address.storage.ss_family);
  if (!socket.is_ok()) return socket;
  set_no_delay(*socket);
  const int failed = ::connect(socket->get(), address.get(), address.length);
  // A connect that a signal interrupted goes on by itself: asked again, it would say that it is under way or done.
  if (failed == 0 || errno == EINPROGRESS || errno == EINTR) return socket;
  if (errno == EAGAIN) return Status(Code::kNotAvailable, "too many others wait to be accepted at " + where);
  return connect_error(errno);
}

}  // namespace

Result<Fd> listen_tcp(const std::string& host) {
  Result<SocketAddress> address = tcp_address(host, 0);
  if (!address.is_ok()) return address.status();
  return listen_at(*address, host);
}

Result<std::uint16_t> local_port(const Fd& socket) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) {
    return errno_status(Code::kInternal, "cannot ask for a socket's port");
  }
  if (storage.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
}

Result<Fd> listen_unix(const std::string& abstract_name) {
  Result<SocketAddress> address = unix_address(abstract_name);
  if (!address.is_ok()) return address.status();
  return listen_at(*address, "an abstract Unix socket");
}

Result<Fd> start_connect_tcp(const TcpAddress& to) {
  Result<SocketAddress> address = tcp_address(to.host, to.port);
  if (!address.is_ok()) return address.status();
  return start_connect(*address, to.host + ":" + std::to_string(to.port));
}

Result<Fd> start_connect_unix(const std::string& abstract_name) {
  Result<SocketAddress> address = unix_address(abstract_name);
  if (!address.is_ok()) return address.status();
  return start_connect(*address, "the Unix socket");
}

Status finish_connect(const Fd& socket) {
  int error = 0;
  socklen_t length = sizeof(error);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
  return error == 0 ? Status::ok() : connect_error(error);
}

Result<std::optional<Fd>> accept_connection(const Fd& listener) {
  while (true) {
    Fd socket = Fd::make([&] { return ::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC); });
    if (socket) {
      set_no_delay(socket);
      return std::optional<Fd>(std::move(socket));
    }
    if (errno == EAGAIN) return std::optional<Fd>();
    if (errno == EINTR || errno == ECONNABORTED) continue;
    return errno_status(Code::kConnectError, "cannot accept a connection");
  }
}

Result<PeerProcess> peer_process(const Fd& socket) {
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return errno_status(Code::kConnectError, "cannot ask who is at the other end of a Unix socket");
  }
  return PeerProcess{static_cast<std::uint32_t>(credentials.pid), static_cast<std::uint32_t>(credentials.uid)};
}

bool is_unix(const Fd& socket) {
  int domain = 0;
  socklen_t length = sizeof(domain);
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

Status set_dead_peer_timeout(const Fd& socket, double seconds) {
  const int on = 1;
  const int whole = std::max(1, static_cast<int>(std::ceil(seconds)));
  const int probes = 3;
  const int interval = std::max(1, whole / probes);
  const auto milliseconds = static_cast<unsigned>(std::min(seconds * 1000.0, 2.0e9));
  const bool ok = ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on)) == 0 &&
                  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &interval, sizeof(interval)) == 0 &&
                  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval)) == 0 &&
                  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes)) == 0 &&
                  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof(milliseconds)) == 0;
  return ok ? Status::ok() : errno_status(Code::kInternal, "cannot set a TCP socket's dead peer timeout");
}

}  // namespace ray_hixl::net
