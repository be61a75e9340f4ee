// What the tests share that let real processes meet over the FAKE HIXL: a consumer here, owners elsewhere, and what is asked of them.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "object/fixtures.h"
#include "object/metadata.h"
#include "support/device_memory.h"
#include "support/eventually.h"
#include "support/sizes.h"
#include "support/yardstick.h"

namespace ray_hixl::test {

inline constexpr std::int32_t kPeerDevice = 1;  // of the owners' memory; and here, since the index is the same

// The same metadata as somebody has it who can reach its owner by TCP only.
inline Bytes over_tcp(const Bytes& metadata) {
  const Metadata decoded = Metadata::decode(metadata).value();
  const Bytes engine = tcp_only(decoded.engine());
  return encode_metadata({engine, decoded.handle(), decoded.layouts(), decoded.runs(), decoded.error(), decoded.placements()});
}

// A TCP port of loopback that is kept while it lives.
class TakenPort {
 public:
  explicit TakenPort(std::uint16_t port, const std::string& ip = "127.0.0.1") : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    (void)::inet_pton(AF_INET, ip.c_str(), &address.sin_addr);
    socklen_t length = sizeof(address);
    is_taken_ = ::bind(fd_, reinterpret_cast<sockaddr*>(&address), length) == 0 && ::listen(fd_, 1) == 0 &&
                ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &length) == 0;
    port_ = ntohs(address.sin_port);
  }
  TakenPort(TakenPort&& other) noexcept : fd_(std::exchange(other.fd_, -1)), port_(other.port_), is_taken_(other.is_taken_) {}
  ~TakenPort() { ::close(fd_); }
  TakenPort(const TakenPort&) = delete;
  TakenPort& operator=(const TakenPort&) = delete;
  TakenPort& operator=(TakenPort&&) = delete;
  [[nodiscard]] bool is_taken() const { return is_taken_; }
  [[nodiscard]] std::uint16_t port() const { return port_; }

 private:
  int fd_;
  std::uint16_t port_ = 0;
  bool is_taken_ = false;
};

// Two neighbouring ports.
inline std::pair<TakenPort, TakenPort> take_two_ports() {
  while (true) {
    TakenPort first(0);
    if (first.port() == 65535) continue;
    TakenPort second(static_cast<std::uint16_t>(first.port() + 1));
    if (first.is_taken() && second.is_taken()) return {std::move(first), std::move(second)};
  }
}

inline PortRange two_free_ports() {
  const auto [first, second] = take_two_ports();
  return {first.port(), second.port()};
}

// By HIXL or not at all.
inline Options without_staged(Options options = {}) {
  std::erase(options.transports, "staged");
  return options;
}

// The same, and links whose requests do not end are given up soon.
inline Options impatient(Options options = {}) {
  options.stall_timeout_s = 0.2;
  return without_staged(std::move(options));
}

class HixlProcesses : public testing::Test {
 protected:
  explicit HixlProcesses(const Options& options = {}) {
    use_test_cann();
    consumer.emplace(impatient(options));
  }

  [[nodiscard]] Fetch start(const Bytes& metadata, std::chrono::nanoseconds timeout = kRead) const {
    return consumer->objects().fetch(metadata, {}, nullptr, timeout);
  }
  // Fetches an object and compares.
  void expect_fetched(const Bytes& metadata, const std::vector<std::uint64_t>& sizes, std::uint64_t seed) const {
    const auto tensors = fetch(consumer->objects(), metadata);
    ASSERT_THAT(tensors.status(), IsOk());
    expect_patterns(*tensors, sizes, seed);
  }
  // An object of the owner's, fetched.
  void expect_served(PeerProcess& owner, const std::vector<std::uint64_t>& sizes = {4096, 100}, std::uint64_t seed = 5) const {
    expect_fetched(owner.publish(sizes, seed, SourceMemory::kSlab), sizes, seed);
  }
  // Of the device here that it all comes to.
  [[nodiscard]] DeviceStats device() const {
    for (const DeviceStats& each : (*consumer)->stats().devices) {
      if (each.device == kPeerDevice) return each;
    }
    return {};
  }
  // Waits until HIXL has been asked for so many transfers more.
  [[nodiscard]] static bool transfers_reach(std::uint64_t count) {
    return eventually([=] { return fake_count("TransferAsync") >= count; });
  }

  std::optional<OwnObjects> consumer;
};

// Does it end within so long, by the yardstick?
MATCHER_P(EndsWithin, time, "") {
  const auto start = std::chrono::steady_clock::now();
  // To measure the yardstick takes its time, in which what a test looks at next may pass: only where it matters.
  const bool ended = arg.transfer().wait(time) || arg.transfer().wait(scaled(time));
  *result_listener << "after " << (std::chrono::steady_clock::now() - start) / std::chrono::milliseconds(1)
                   << " ms: " << (ended ? arg.transfer().result().to_string() : "it goes on");
  return ended;
}

}  // namespace ray_hixl::test
