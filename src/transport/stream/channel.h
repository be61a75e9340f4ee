// The reader's half of stream: a few data connections to one peer, each busy with one request at a time, and a queue in front of them.
// Small jobs that wait there go together, as one request: what is asked for at once costs a few round trips, however many they are.
#pragma once

#include <memory>

#include "transport/stream/carrier.h"
#include "transport/transport.h"

namespace ray_hixl::transport::stream {

class StreamChannel final : public Channel {
 public:
  // `carrier` outlives it.
  StreamChannel(const Context& context, const Carrier& carrier, Port& port);
  ~StreamChannel() override;

  [[nodiscard]] Status can_read(RemoteMemory memory) const override { return carrier_.can_read(memory); }
  void submit(std::shared_ptr<Job> job) override;
  void heed_stops() override;
  void on_notice(const control::Frame&) override {}
  void close(const Status& why) override;

 private:
  struct Impl;
  const Context& context_;
  const Carrier& carrier_;
  const std::shared_ptr<Impl> impl_;  // shared with tasks on the loop
};

}  // namespace ray_hixl::transport::stream
