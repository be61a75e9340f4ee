// Sender: the owner's end of one data connection. Takes reads one after another and sends their answers. Loop thread only.
//
// While an answer is under way, nothing is read from the connection: a reader that asks for more than it takes has to wait. Bytes, requests
// and their spans are all charged to a turn's budget; when it is used up, others have their turn. What takes time in proportion to the
// spans of a long request is done by the copy pool.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "net/loop.h"
#include "transport/stream/answer.h"
#include "transport/stream/carrier.h"
#include "transport/stream/checked_copy.h"
#include "transport/stream/inbox.h"
#include "transport/transport.h"

namespace ray_hixl::transport::stream {

class Sender {
 public:
  // `carrier` and `copy` are shared by senders. `received`: bytes that came along with the handshake. `ended` is posted once, when the
  // reader hung up, stalled or broke the protocol; it may destroy the sender.
  Sender(const Context& context, const Carrier& carrier, CheckedCopy& copy, Fd socket, ByteView received, std::function<void()> ended);
  ~Sender();
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  // Takes up what came along. To be called once, right after construction.
  void start();

 private:
  void on_event(std::uint32_t events);
  [[nodiscard]] bool receive();
  void work();
  [[nodiscard]] bool take_request(std::uint64_t& budget);
  void take(Inbox::Taken request);
  [[nodiscard]] bool transmit(std::uint64_t& budget);
  void carry();
  void elsewhere(const std::function<void()>& step);
  void back();
  void drop_answer();
  void wait(bool out_of_budget);
  void watch_stall();
  void on_stall_time();
  void end();

  const Context& context_;
  const Carrier& carrier_;
  CheckedCopy& copy_;
  Fd socket_;
  std::function<void()> ended_;  // null once it was posted
  Inbox inbox_;
  std::shared_ptr<Answer> answer_;  // the one that is under way
  bool away_ = false;               // the pool is busy with it
  std::vector<iovec> vectors_;      // scratch
  std::uint32_t watched_ = 0;       // epoll events
  std::uint64_t progress_ = 0;      // grows with every byte, in or out
  std::uint64_t progress_seen_ = 0;
  net::Loop::TimerId stall_timer_ = 0;
  const std::shared_ptr<Sender*> self_ = std::make_shared<Sender*>(this);  // dead once this is: for tasks that come later
};

}  // namespace ray_hixl::transport::stream
