// Flight: one transfer on a link: check, resolve, split into jobs by channel, wait for them, check again, end.
//
//   resolving -> moving -> (confirming ->) ended
//
// A channel may find out only when it is to move that it cannot: HIXL does not link the two devices, or the kernel reads some host memory
// for its owner only. Then its pieces go to the next ones that can, pinned memory of both hosts to that of any other host memory.
//
// It belongs to its transfer, through the stop hook, until that is stopped or ends; while jobs move, to them. Everything else that it waits
// for (answers of the owner, timers) holds it weakly. The memory of a plan for one transfer is let go of before the end is seen, or, where
// jobs may still write then, by the last of them. It ends its TransferState exactly once. Any thread.
//
// Stopping. Before anything moves, and while the owner is asked, a transfer that is to stop ends at once. While jobs move, their memory
// decides. Memory of the landing arena is nobody's yet: the transfer ends at once, and the memory stays in quarantine until the jobs have
// ended. The caller's own memory he may use again as soon as he sees the end: so that waits for the jobs, for one second at most, and then
// says that something may still write.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/deadline.h"
#include "base/mutex.h"
#include "link/flight_host.h"
#include "link/split.h"
#include "transport/job.h"

namespace ray_hixl::link {

class Flight : public std::enable_shared_from_this<Flight> {
 public:
  // How long the caller's own memory is waited for.
  static constexpr std::chrono::seconds kStopTime{1};

  static void start(std::shared_ptr<FlightHost> host, std::shared_ptr<const transport::Plan> plan,
                    std::shared_ptr<transport::TransferState> state);

 private:
  enum class Phase : std::uint8_t { kResolving, kMoving, kConfirming, kEnded };
  Flight(std::shared_ptr<FlightHost> host, std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state);

  void begin();
  void resolve();
  void resolved(std::size_t source, Result<std::shared_ptr<const Resolution>> resolution);
  void dispatch();
  void split_and_submit();
  void move(const Shares& shares);
  [[nodiscard]] const Candidate* choose_pins() const;
  [[nodiscard]] std::vector<Handle> unread_sources() const;
  void submit(const Shares& shares);
  void submit(std::size_t candidate, std::shared_ptr<const transport::Share> share);
  [[nodiscard]] bool hand_over(std::size_t from, transport::Job& job, const Status& status);
  void note_unreadable(const transport::Job& job) const;
  void begin_anew(std::size_t from, const transport::Share& share, const Status& failure);
  void job_done(const Status& status);
  void moved(const Status& status);
  void confirm();

  [[nodiscard]] Status check_before() const;
  [[nodiscard]] Status check_sources() const;
  [[nodiscard]] Status timed_out() const;
  [[nodiscard]] Status why_stopped() const;
  [[nodiscard]] Status verdict(const Status& moved) const;

  void on_stop();
  void tell_channels() const;
  void leave_behind();
  void end(const Status& result);
  void finish(const Status& result);
  void set_timer(Deadline deadline, void (Flight::*due)());
  void past_deadline();

  const std::shared_ptr<FlightHost> host_;
  const std::shared_ptr<const transport::Plan> plan_;
  const std::shared_ptr<transport::TransferState> state_;

  Mutex mutex_;
  Phase phase_ RAY_HIXL_GUARDED_BY(mutex_) = Phase::kResolving;
  std::size_t unresolved_ RAY_HIXL_GUARDED_BY(mutex_) = 0;  // sources
  std::size_t moving_ RAY_HIXL_GUARDED_BY(mutex_) = 0;      // jobs that are not done
  Status error_ RAY_HIXL_GUARDED_BY(mutex_);                // the first one of a job
  std::shared_ptr<Resolutions> coming_ RAY_HIXL_GUARDED_BY(mutex_);
  // Written by one thread before anything moves, constant from then on.
  const Candidate* pins_ = nullptr;                 // moves pinned memory of this peer; null: nobody, or there is none
  std::shared_ptr<const Resolutions> resolutions_;  // null: nothing is read by address
  std::shared_ptr<const Known> known_;              // as this link has split the plan before; null: it has not
  std::vector<Handle> unread_;                      // sources that no channel checks, where generations are not mapped
  std::atomic<bool> armed_{false};                  // a timer was or will be set
  net::Loop::TimerId timer_ = 0;                    // loop thread only
};

}  // namespace ray_hixl::link
