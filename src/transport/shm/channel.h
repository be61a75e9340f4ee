// The reader's half of shm: gets the segments that a job needs, then copies out of them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "transport/mappings.h"
#include "transport/pull.h"
#include "transport/transport.h"

namespace ray_hixl::transport::shm {

class ShmChannel final : public Channel {
 public:
  ShmChannel(const Context& context, Port& port);

  [[nodiscard]] Status can_read(RemoteMemory memory) const override;
  void submit(std::shared_ptr<Job> job) override;
  [[nodiscard]] bool copy_now(const Share& share) override;
  void heed_stops() override;
  void on_notice(const control::Frame& notice) override;
  void close(const Status& why) override;

 private:
  struct Waiting;
  class Impl;
  const std::shared_ptr<Impl> impl_;  // shared with answers that are to come
};

}  // namespace ray_hixl::transport::shm
