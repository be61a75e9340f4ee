// Session: another engine's link, seen from the owner. Answers what its reader asks for. Loop thread only.
//
// A reader that asks for more than it takes has to wait: while more than kMostQueued bytes of answers are queued, or a long answer is being
// made, no further request is taken and none is read; and after kRequestsATurn requests others have their turn. So what one reader can make
// this process hold is bounded by one long answer.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "control/handshake.h"
#include "control/messages.h"
#include "net/connection.h"
#include "transport/transport.h"

namespace ray_hixl::link {

class Session final : public transport::Answerable, public std::enable_shared_from_this<Session> {
 public:
  static constexpr std::size_t kMostQueued = std::size_t{1} << 20;
  static constexpr std::size_t kRequestsATurn = 64;
  static constexpr std::size_t kMostUnanswered = 1024;  // answers may come later than their requests

  // Sends the welcome at once. `ended` is posted once, when the other side hung up, ended or broke the protocol; it may destroy the
  // session.
  static std::shared_ptr<Session> start(const transport::Context& context,
                                        const std::vector<std::unique_ptr<transport::Transport>>& transports, const control::Hello& hello,
                                        Fd socket, std::function<void()> ended);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void work_began() override;
  void answered(transport::FrameParts frame, std::vector<Fd> fds, bool worked) override;
  void segment_retired(std::uint32_t id);

 private:
  Session(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports,
          std::function<void()> ended);
  void begin(const control::Hello& hello, Fd socket);
  void welcome();
  std::size_t on_bytes(std::span<const std::byte> bytes);
  void watch_stall();
  [[nodiscard]] bool has_enough() const;
  void go_on();
  void on_request(const control::Frame& request);
  void resolve(const control::Frame& request, transport::Responder responder);
  void check(const control::Frame& request, transport::Responder responder);
  void end();

  const transport::Context& context_;
  const std::vector<std::unique_ptr<transport::Transport>>& transports_;
  std::function<void()> ended_;  // null once it was posted
  std::shared_ptr<const transport::ReaderView> reader_;
  net::WatchedProcess::Subscription death_;
  std::optional<net::Connection> connection_;
  std::size_t unanswered_ = 0;
  std::size_t working_ = 0;  // of those, how many are made elsewhere
  bool paused_ = false;
  net::Loop::TimerId stall_timer_ = 0;
};

}  // namespace ray_hixl::link
