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

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/mutex.h"
#include "link/path.h"
#include "link/resolver.h"
#include "net/loop.h"
#include "transport/counters.h"
#include "transport/job.h"

namespace ray_hixl::link {

// What a Flight needs of its link. Any thread may call what is not marked; callbacks run on any thread, with no lock held.
class FlightHost {
 public:
  virtual ~FlightHost() = default;

  [[nodiscard]] virtual const Paths& paths() const = 0;
  // The channel for such memory; null if there is none, and no_path() says why.
  [[nodiscard]] virtual const Candidate* choose(transport::RemoteMemory memory) const = 0;
  // The one after `first`, where that turned out not to; null if there is none.
  [[nodiscard]] virtual const Candidate* choose_after(const Candidate& first, transport::RemoteMemory memory) const = 0;
  [[nodiscard]] virtual Status no_path(transport::RemoteMemory memory) const = 0;
  [[nodiscard]] virtual std::string peer_name() const = 0;
  [[nodiscard]] virtual transport::Counters& counters() const = 0;

  // ok while the link is up; then why it is not.
  [[nodiscard]] virtual Status state() const = 0;
  // The same, and looks at the peer's process itself, which may have ended a moment ago.
  [[nodiscard]] virtual Status check_alive() const = 0;
  // Are the owner's generations mapped here? Otherwise the owner itself has to say whether a slot is live.
  [[nodiscard]] virtual bool shows_generations() const = 0;
  // REQUIRES: shows_generations().
  [[nodiscard]] virtual bool is_live(const Handle& handle) const = 0;
  // Asks the owner whether all of them are live: ok, or why not.
  virtual void ask_live(const std::vector<Handle>& handles, std::function<void(Status)> answer) = 0;
  [[nodiscard]] virtual Resolver& resolver() = 0;

  [[nodiscard]] virtual bool on_loop() const = 0;
  // Runs what takes long on another thread than the loop's. Not ok, and why, if it will not run.
  [[nodiscard]] virtual Status run(std::function<void()> work) = 0;
  // Lets go of what takes long to let go of.
  [[nodiscard]] virtual memory::Reaper& reaper() = 0;
  // Runs `task` on the loop thread; dropped if the engine is closing.
  virtual void post(std::function<void()> task) = 0;
  // Loop thread.
  [[nodiscard]] virtual net::Loop::TimerId at(Deadline deadline, std::function<void()> task) = 0;
  virtual void cancel(net::Loop::TimerId timer) = 0;
};

class Flight : public std::enable_shared_from_this<Flight> {
 public:
  // How long the caller's own memory is waited for.
  static constexpr std::chrono::seconds kStopTime{1};

  static void start(std::shared_ptr<FlightHost> host, std::shared_ptr<const transport::Plan> plan,
                    std::shared_ptr<transport::TransferState> state);

 private:
  enum class Phase : std::uint8_t { kResolving, kMoving, kConfirming, kEnded };
  struct Jobs {
    std::vector<std::shared_ptr<transport::Job>> of;                    // a candidate; null: it reads nothing
    std::array<const Candidate*, transport::kRemoteMemories> chosen{};  // for such memory; null: not asked yet
    const Candidate* pins = nullptr;   // moves pinned memory as such; null: it is taken for what it is otherwise
    const Candidate* after = nullptr;  // turned out not to move these pieces; null: none did
  };

  Flight(std::shared_ptr<FlightHost> host, std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state);

  void begin();
  void resolve();
  void resolved(std::size_t source, Result<std::shared_ptr<const Resolution>> resolution);
  void dispatch();
  void split_and_submit();
  [[nodiscard]] bool is_of_hosts(const transport::Piece& piece) const;
  [[nodiscard]] static transport::RemoteMemory memory_of(const transport::DevicePlace& place, bool pins);
  [[nodiscard]] Status split(const std::vector<transport::Piece>& pieces, Jobs& jobs) const;
  [[nodiscard]] Status split_piece(const transport::Piece& piece, Jobs& jobs) const;
  [[nodiscard]] Status add(transport::Piece piece, transport::RemoteMemory memory, Jobs& jobs) const;
  [[nodiscard]] const Candidate* choose(transport::RemoteMemory memory, const Jobs& jobs) const;
  [[nodiscard]] const Candidate* choose_pins() const;
  [[nodiscard]] bool has_another_way(const Candidate& chosen, bool pins) const;
  [[nodiscard]] std::vector<Handle> unread_sources() const;
  void submit(Jobs& jobs);
  void submit(std::size_t candidate, std::shared_ptr<transport::Job> job);
  [[nodiscard]] bool hand_over(std::size_t from, transport::Job& job, const Status& status);
  void note_unreadable(const transport::Job& job) const;
  void begin_anew(std::size_t from, const std::vector<transport::Piece>& pieces, const Status& failure);
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
  std::vector<Handle> unread_;                      // sources that no channel checks, where generations are not mapped
  std::atomic<bool> armed_{false};                  // a timer was or will be set
  net::Loop::TimerId timer_ = 0;                    // loop thread only
};

}  // namespace ray_hixl::link
