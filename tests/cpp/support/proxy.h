// Proxy: passes one TCP connection after another on to an engine, and counts how often the client spoke.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"

namespace ray_hixl::test {

class Proxy {
 public:
  // To a port of loopback.
  explicit Proxy(std::uint16_t to) : to_(to), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = loopback(0);
    socklen_t length = sizeof(address);
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener_.get(), 8) != 0 ||
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      std::abort();
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~Proxy() {
    stopped_ = true;
    thread_.join();
  }
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  [[nodiscard]] std::uint16_t port() const { return port_; }
  // Pieces of bytes that came from clients: at most one for each message that was sent by itself.
  [[nodiscard]] std::uint64_t client_spoke() const { return client_spoke_; }

 private:
  struct Pair {
    Fd client;
    Fd server;
  };

  static sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
  }

  void accept() {
    Pair pair{Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)), Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
    const sockaddr_in address = loopback(to_);
    if (::connect(pair.server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) pairs_.push_back(std::move(pair));
  }

  // False if a side hung up.
  static bool pass(int from, int to) {
    std::array<char, 65536> buffer;
    const ssize_t got = ::recv(from, buffer.data(), buffer.size(), 0);
    for (ssize_t sent = 0; sent < got;) {
      const ssize_t n = ::send(to, buffer.data() + sent, static_cast<std::size_t>(got - sent), MSG_NOSIGNAL);
      if (n <= 0) return false;
      sent += n;
    }
    return got > 0;
  }

  void run() {
    while (!stopped_) {
      std::vector<pollfd> waited = {{listener_.get(), POLLIN, 0}};
      for (const Pair& pair : pairs_) {
        waited.push_back({pair.client.get(), POLLIN, 0});
        waited.push_back({pair.server.get(), POLLIN, 0});
      }
      if (::poll(waited.data(), waited.size(), 20) <= 0) continue;
      for (std::size_t i = 0; i < pairs_.size(); ++i) {
        Pair& pair = pairs_[i];
        if (waited[1 + 2 * i].revents != 0) ++client_spoke_;
        const bool client = waited[1 + 2 * i].revents == 0 || pass(pair.client.get(), pair.server.get());
        const bool server = waited[2 + 2 * i].revents == 0 || pass(pair.server.get(), pair.client.get());
        if (!client || !server) pair = {};
      }
      std::erase_if(pairs_, [](const Pair& pair) { return !pair.client; });
      if (waited[0].revents != 0) accept();
    }
  }

  const std::uint16_t to_;
  const Fd listener_;
  std::uint16_t port_ = 0;
  std::vector<Pair> pairs_;  // the thread's own
  std::atomic<std::uint64_t> client_spoke_{0};
  std::atomic<bool> stopped_{false};
  std::thread thread_;
};

}  // namespace ray_hixl::test
