// The reader's half of staged: by mapped parts of the owner's staging memory where it lends them, by the connections of stream otherwise.
#pragma once

#include <cstdint>
#include <memory>

#include "transport/staged/borrower.h"
#include "transport/transport.h"

namespace ray_hixl::transport::staged {

class StagedChannel final : public Channel {
 public:
  // `parts`: how many the owner lends; 0: none.
  StagedChannel(const Context& context, Port& port, std::uint32_t parts, std::unique_ptr<Channel> connections);

  [[nodiscard]] Status can_read(RemoteMemory memory) const override { return connections_->can_read(memory); }
  void submit(std::shared_ptr<Job> job) override;
  void heed_stops() override;
  void on_notice(const control::Frame& notice) override;
  void close(const Status& why) override;

 private:
  const std::unique_ptr<Channel> connections_;
  const std::unique_ptr<Borrower> borrower_;  // null: nothing is lent
};

}  // namespace ray_hixl::transport::staged
