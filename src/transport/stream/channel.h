// The reader's half of stream: a few data connections to one peer, each busy with one job at a time, and a queue in front of them.
#pragma once

#include <memory>

#include "transport/transport.h"

namespace ray_hixl::transport::stream {

class StreamChannel final : public Channel {
 public:
  StreamChannel(const Context& context, Port& port);
  ~StreamChannel() override;

  [[nodiscard]] Status can_read(RemoteMemory memory) const override {
    return memory == RemoteMemory::kDevice ? host_memory_only() : Status::ok();
  }
  void submit(std::shared_ptr<Job> job) override;
  void heed_stops() override;
  void on_notice(const control::Frame&) override {}
  void close(const Status& why) override;

 private:
  struct Impl;
  const Context& context_;
  const std::shared_ptr<Impl> impl_;  // shared with tasks on the loop
};

}  // namespace ray_hixl::transport::stream
