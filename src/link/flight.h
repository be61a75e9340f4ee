// Flight: one transfer on a link: resolve, split into jobs by channel, wait for them, check, end.
//
// It lives through the callbacks of what it waits for, and ends its TransferState exactly once. Any thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "link/resolver.h"
#include "net/loop.h"
#include "transport/job.h"

namespace ray_hixl::link {

class PeerLink;

class Flight : public std::enable_shared_from_this<Flight> {
 public:
  static void start(std::shared_ptr<PeerLink> link, std::shared_ptr<const transport::Plan> plan,
                    std::shared_ptr<transport::TransferState> state);

  Flight(std::shared_ptr<PeerLink> link, std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state);

 private:
  enum class Phase : std::uint8_t { kResolving, kMoving, kEnded };

  void resolve();
  void resolved(std::size_t source, Result<std::shared_ptr<const Resolution>> resolution);
  void dispatch();
  [[nodiscard]] Status split(std::vector<std::shared_ptr<transport::Job>>& jobs) const;
  [[nodiscard]] Status split_piece(const transport::Piece& piece, std::vector<std::shared_ptr<transport::Job>>& jobs) const;
  [[nodiscard]] Status add(transport::Piece piece, transport::RemoteMemory memory,
                           std::vector<std::shared_ptr<transport::Job>>& jobs) const;
  void job_done(const Status& status);
  [[nodiscard]] Status timed_out() const;
  [[nodiscard]] Status verdict(const Status& moved) const;
  void end(const Status& result);
  void on_stop();
  void arm();
  void overdue();

  const std::shared_ptr<PeerLink> link_;
  const std::shared_ptr<const transport::Plan> plan_;
  const std::shared_ptr<transport::TransferState> state_;

  Mutex mutex_;
  Phase phase_ RAY_HIXL_GUARDED_BY(mutex_) = Phase::kResolving;
  std::vector<std::shared_ptr<const Resolution>> resolutions_;  // by source; under mutex_ until the last one is there, then constant
  std::size_t unresolved_ RAY_HIXL_GUARDED_BY(mutex_) = 0;
  std::size_t moving_ RAY_HIXL_GUARDED_BY(mutex_) = 0;  // jobs that are not done
  Status error_ RAY_HIXL_GUARDED_BY(mutex_);            // the first one
  bool quarantined_ RAY_HIXL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> armed_{false};  // a timer was or will be set
  net::Loop::TimerId timer_ = 0;    // loop thread only
};

}  // namespace ray_hixl::link
