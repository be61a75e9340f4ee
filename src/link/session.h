// Session: another engine's link, seen from the owner. Answers what its reader asks for. Loop thread only.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "control/messages.h"
#include "net/connection.h"
#include "transport/transport.h"

namespace ray_hixl::link {

class Session final : public transport::SessionPort {
 public:
  // Sends the welcome at once. `ended` runs once, when the other side hung up or broke the protocol; it may destroy the session.
  Session(const transport::Context& context, const std::vector<std::unique_ptr<transport::Transport>>& transports, Fd socket,
          std::function<void()> ended);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void send(std::vector<std::byte> frame, std::vector<Fd> fds) override;
  [[nodiscard]] bool may_pass_fds() const override { return may_pass_fds_; }
  void segment_retired(std::uint32_t id);

 private:
  void welcome();
  std::size_t on_bytes(std::span<const std::byte> bytes);
  void on_unknown(const control::Frame& frame);
  void on_request(const control::Frame& request);
  void resolve(const control::Frame& request);
  void check(const control::Frame& request);
  void end();

  const transport::Context& context_;
  const std::vector<std::unique_ptr<transport::Transport>>& transports_;
  const bool may_pass_fds_;
  std::function<void()> ended_;  // null once it ran
  net::Connection connection_;
};

}  // namespace ray_hixl::link
