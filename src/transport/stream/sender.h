// Sender: the owner's end of one data connection. Takes reads one after another and sends their answers. Loop thread only.
//
// While an answer is under way, nothing is read from the connection: a reader that asks for more than it takes has to wait.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/fd.h"
#include "net/loop.h"
#include "transport/stream/answer.h"
#include "transport/transport.h"

namespace ray_hixl::transport::stream {

class Sender {
 public:
  // `received`: bytes that came along with the handshake. `ended` is posted once, when the reader hung up, stalled or broke the protocol;
  // it may destroy the sender.
  Sender(const Context& context, Fd socket, std::vector<std::byte> received, std::function<void()> ended);
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  // Takes up what came along. To be called once, right after construction.
  void start();

 private:
  void on_event();
  [[nodiscard]] bool receive();
  void work();
  [[nodiscard]] bool take_request();
  [[nodiscard]] std::optional<Answer> answer_to(const control::Frame& frame) const;
  [[nodiscard]] bool transmit(std::uint64_t& budget);
  void wait();
  void watch_stall();
  void on_stall_time();
  void end();

  const Context& context_;
  Fd socket_;
  std::function<void()> ended_;   // null once it was posted
  std::vector<std::byte> input_;  // its first filled_ bytes came in and were not used yet
  std::size_t filled_ = 0;
  std::optional<Answer> answer_;  // the one that is under way
  std::vector<iovec> vectors_;    // scratch
  std::uint32_t watched_ = 0;     // epoll events
  std::uint64_t progress_ = 0;    // grows with every byte, in or out
  std::uint64_t progress_seen_ = 0;
  net::Loop::TimerId stall_timer_ = 0;
};

}  // namespace ray_hixl::transport::stream
