// Reader: the reader's end of one data connection. One request at a time: asks, then receives straight into place, or into an inflow where
// that is not the host's. Loop thread only.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "base/fd.h"
#include "control/messages.h"
#include "net/loop.h"
#include "transport/stream/carrier.h"
#include "transport/stream/read_request.h"
#include "transport/transport.h"

namespace ray_hixl::transport::stream {

class Reader : public std::enable_shared_from_this<Reader> {
 public:
  // How a request ended here. `reusable`: the connection may take another one. `untouched`: it broke before the first byte of an answer
  // came. `inflow`: what has to end the job; null: who hears of this.
  struct End {
    Status status;
    bool reusable = false;
    bool untouched = false;
    std::shared_ptr<Inflow> inflow;
  };
  using Ended = std::function<void(End)>;

  Reader(const Context& context, const Carrier& carrier, Fd socket);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // REQUIRES: none is under way; of one job where it goes into inflows. `ended` runs once, and may destroy the reader; nothing writes to
  // the jobs' memory afterwards.
  void start(std::shared_ptr<const ReadRequest> request, Ended ended);
  // What is under way; null if nothing is.
  [[nodiscard]] const std::shared_ptr<const ReadRequest>& request() const { return request_; }
  // Ends it now. The connection cannot be used any more.
  void abandon(const Status& why);

 private:
  enum class Phase : std::uint8_t { kAnswer, kPayload, kTrailer };

  void on_event(std::uint32_t events);
  void send_request();
  void watch(std::uint32_t events);
  void receive();
  void on_room();
  [[nodiscard]] bool receive_small();
  [[nodiscard]] bool receive_payload();
  bool on_answer(const control::Frame& frame);
  [[nodiscard]] bool is_last(const control::Frame& frame) const;
  void on_trailer(const control::Frame& frame);
  [[nodiscard]] std::span<std::byte> next_room();
  void fill_vectors();
  void place(std::size_t bytes);
  void take_buffered_payload();
  void watch_stall();
  void end(const Status& status, bool reusable);
  void broke(const std::string& why);

  const Context& context_;
  const Carrier& carrier_;
  Fd socket_;
  std::shared_ptr<const ReadRequest> request_;
  Ended ended_;
  std::shared_ptr<Inflow> inflow_;  // null: the job's memory is the host's
  std::size_t sent_ = 0;            // bytes of its frame
  std::uint32_t watched_ = 0;       // epoll events; 0: it is not watched
  Phase phase_ = Phase::kAnswer;
  bool untouched_ = true;
  std::size_t piece_ = 0;                // the next byte belongs to this piece of the request,
  std::uint64_t in_piece_ = 0;           // at this offset
  std::uint64_t wanted_ = 0;             // payload bytes still to come
  std::array<std::byte, 8192> small_{};  // frames, and payload that came along with them
  std::size_t small_size_ = 0;
  std::vector<iovec> vectors_;
  std::uint64_t progress_ = 0;  // grows with every byte
  net::Loop::TimerId stall_timer_ = 0;
};

}  // namespace ray_hixl::transport::stream
