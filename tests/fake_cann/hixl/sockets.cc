#include "hixl/sockets.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

namespace fake_hixl {
namespace {

constexpr int kBacklog = 128;
constexpr std::size_t kMostOfMessage = std::size_t{4} << 20;
constexpr std::size_t kPrefix = sizeof(std::uint32_t);

// False when the deadline passed.
bool wait_for(int fd, short events, Deadline deadline) {
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now()).count();
    pollfd waited{fd, events, 0};
    const int ready = ::poll(&waited, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (ready > 0) return true;
    if (ready == 0 && left <= 0) return false;
  }
}

bool is_temporary(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Fd& Fd::operator=(Fd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

int Fd::release() { return std::exchange(fd_, -1); }

Fd listen_at(const Address& address) {
  Fd fd(::socket(address.socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  const bool bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.socket), address.length) == 0;
  return bound && ::listen(fd.get(), kBacklog) == 0 ? std::move(fd) : Fd();
}

Outcome connect_to(const Address& address, Deadline deadline, Fd& connected) {
  connected = Fd(::socket(address.socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int fd = connected.get();
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address.socket), address.length) == 0) return Outcome::kDone;
  if (errno != EINPROGRESS) return Outcome::kFailed;
  if (!wait_for(fd, POLLOUT, deadline)) return Outcome::kTimeout;
  int error = 0;
  socklen_t length = sizeof(error);
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  return error == 0 ? Outcome::kDone : Outcome::kFailed;
}

Outcome send_message(int fd, const std::string& body, Deadline deadline) {
  const auto size = static_cast<std::uint32_t>(body.size());
  std::string message(kPrefix, '\0');
  std::memcpy(message.data(), &size, kPrefix);
  message += body;
  for (std::size_t sent = 0; sent < message.size();) {
    const ssize_t count = ::send(fd, message.data() + sent, message.size() - sent, MSG_NOSIGNAL);
    if (count > 0) {
      sent += static_cast<std::size_t>(count);
    } else if (!is_temporary(errno)) {
      return Outcome::kFailed;
    } else if (!wait_for(fd, POLLOUT, deadline)) {
      return Outcome::kTimeout;
    }
  }
  return Outcome::kDone;
}

Outcome receive_message(int fd, std::string& body, Deadline deadline) {
  std::string arrived;
  while (true) {
    if (!wait_for(fd, POLLIN, deadline)) return Outcome::kTimeout;
    const bool more = receive_some(fd, arrived);
    if (auto message = take_message(arrived)) {
      body = std::move(*message);
      return Outcome::kDone;
    }
    if (!more) return Outcome::kFailed;
  }
}

std::optional<std::string> take_message(std::string& arrived) {
  std::uint32_t size = 0;
  if (arrived.size() < kPrefix) return std::nullopt;
  std::memcpy(&size, arrived.data(), kPrefix);
  if (arrived.size() - kPrefix < size) return std::nullopt;
  std::string body = arrived.substr(kPrefix, size);
  arrived.erase(0, kPrefix + size);
  return body;
}

bool receive_some(int fd, std::string& arrived) {
  std::string buffer(64 << 10, '\0');
  while (true) {
    const ssize_t count = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (count < 0) return is_temporary(errno);
    if (count == 0 || arrived.size() > kMostOfMessage) return false;
    arrived.append(buffer.data(), static_cast<std::size_t>(count));
  }
}

bool is_hung_up(int fd) {
  pollfd asked{fd, POLLRDHUP, 0};
  return ::poll(&asked, 1, 0) > 0 && (asked.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

}  // namespace fake_hixl
