// RawSocket: a blocking socket that speaks the protocol as well or as badly as a test wants. Gives up after ten seconds.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.h"
#include "control/descriptor.h"
#include "control/handshake.h"
#include "control/messages.h"
#include "net/socket.h"
#include "support/passed_fd.h"

namespace ray_hixl::test {

class RawSocket {
 public:
  explicit RawSocket(Fd fd) : fd_(std::move(fd)) {
    ::fcntl(fd_.get(), F_SETFL, 0);
    const timeval patience{10, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  }
  static RawSocket over_tcp(const control::EngineDescriptor& to) {
    return RawSocket(std::move(net::start_connect_tcp({to.tcp_host, to.tcp_port})).value());
  }
  static RawSocket over_unix(const control::EngineDescriptor& to) {
    return RawSocket(std::move(net::start_connect_unix(to.unix_name)).value());
  }

  // False if the other side hung up meanwhile.
  bool send(std::span<const std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return false;
      bytes = bytes.subspan(static_cast<std::size_t>(sent));
    }
    return true;
  }
  // All of it at once, with a descriptor (Unix).
  bool send_with(std::span<const std::byte> bytes, const Fd& passed) const { return send_with_fd(fd_, bytes, passed); }
  void hang_up() { fd_.reset(); }
  void shut() const { ::shutdown(fd_.get(), SHUT_RDWR); }  // any thread: who sends or receives meanwhile comes back
  [[nodiscard]] const Fd& fd() const { return fd_; }
  [[nodiscard]] bool has_input() const {
    char byte = 0;
    return ::recv(fd_.get(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  }

  // Waits for the other side to hang up; what it sends meanwhile is ignored.
  [[nodiscard]] bool is_hung_up() {
    while (receive()) {
    }
    return ended_;
  }
  // The next whole message. Nothing if it hung up or was silent for too long.
  struct Message {
    control::MessageType type{};
    std::uint64_t request = 0;
    std::vector<std::byte> body;
  };
  [[nodiscard]] std::optional<Message> message() {
    while (true) {
      const auto frame = control::next_frame(input_);
      if (!frame.is_ok()) return std::nullopt;
      if (*frame) {
        Message message{(*frame)->type, (*frame)->request, {(*frame)->body.begin(), (*frame)->body.end()}};
        input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>((*frame)->bytes.size()));
        return message;
      }
      if (!receive()) return std::nullopt;
    }
  }
  // So many bytes that are no message; fewer if it hung up.
  [[nodiscard]] std::vector<std::byte> bytes(std::size_t count) {
    while (input_.size() < count && receive()) {
    }
    const auto end = input_.begin() + static_cast<std::ptrdiff_t>(std::min(count, input_.size()));
    std::vector<std::byte> taken(input_.begin(), end);
    input_.erase(input_.begin(), end);
    return taken;
  }
  // Goes through a handshake; false if it failed.
  [[nodiscard]] bool shake_hands(control::Handshake handshake) {
    using State = control::Handshake::State;
    while (send(handshake.take_output())) {
      if (handshake.state() == State::kDone) return true;
      if (handshake.state() == State::kFailed) return false;
      const std::size_t used = handshake.on_bytes(input_);
      input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(used));
      if (used == 0 && handshake.state() != State::kFailed && !receive()) return false;
    }
    return false;
  }

 private:
  bool receive() {
    std::array<std::byte, 65536> buffer;
    const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    ended_ = got == 0 || (got < 0 && errno != EAGAIN);
    if (got <= 0) return false;
    input_.insert(input_.end(), buffer.begin(), buffer.begin() + got);
    return true;
  }

  Fd fd_;
  std::vector<std::byte> input_;
  bool ended_ = false;
};

}  // namespace ray_hixl::test
