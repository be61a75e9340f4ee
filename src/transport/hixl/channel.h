// HixlChannel: reads a peer's device memory into device memory here.
#pragma once

#include <memory>

#include "transport/hixl/npus.h"
#include "transport/transport.h"

namespace ray_hixl::transport::hixl {

class HixlChannel final : public Channel {
 public:
  HixlChannel(const Context& context, const std::shared_ptr<Npus>& npus, const PeerView& peer, Port& port);
  ~HixlChannel() override;
  HixlChannel(const HixlChannel&) = delete;
  HixlChannel& operator=(const HixlChannel&) = delete;

  Status can_read(RemoteMemory memory) const override;
  Status reads_now(RemoteMemory memory) const override;
  void submit(std::shared_ptr<Job> job) override;
  void heed_stops() override;
  void on_notice(const control::Frame&) override {}
  void close(const Status& why) override;

 private:
  class Impl;
  const std::shared_ptr<Impl> impl_;  // shared with deliveries
};

}  // namespace ray_hixl::transport::hixl
