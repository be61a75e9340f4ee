// TCP with deadlines. A message on the wire is its length in 4 bytes, and its bytes.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "hixl/address.h"

namespace fake_hixl {

using Deadline = std::chrono::steady_clock::time_point;

// A descriptor that is closed when it goes.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept;
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool is_open() const { return fd_ >= 0; }
  int release();

 private:
  int fd_ = -1;
};

// Listens at exactly this address; not open if that failed.
[[nodiscard]] Fd listen_at(const Address& address);

enum class Outcome { kDone, kFailed, kTimeout };
[[nodiscard]] Outcome connect_to(const Address& address, Deadline deadline, Fd& connected);
[[nodiscard]] Outcome send_message(int fd, const std::string& body, Deadline deadline);
[[nodiscard]] Outcome receive_message(int fd, std::string& body, Deadline deadline);

// Takes a whole message off the front of what arrived; nullopt if it is not complete.
[[nodiscard]] std::optional<std::string> take_message(std::string& arrived);
// Appends what has arrived at a non-blocking socket. False when the peer is gone.
[[nodiscard]] bool receive_some(int fd, std::string& arrived);
// Whether the peer closed, or died.
[[nodiscard]] bool is_hung_up(int fd);

}  // namespace fake_hixl
