// TransferState: what all copies of a Transfer and all its jobs share. It ends exactly once.
//
// Two steps on purpose: stopping (somebody wants it to end: cancelled, past its deadline, the link went down) and done (it has ended: no
// job writes any more, or the result says that one may). Any thread may call any method; callbacks run with no lock held.
//
// In a forked child a transfer that had ended is as it was. One of the parent's that was under way has ended with kClosed, takes no locks
// and does nothing more. Made by make_process_shared().
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "base/deadline.h"
#include "base/mutex.h"
#include "base/thread.h"
#include "control/kinds.h"
#include "ray_hixl/stats.h"
#include "ray_hixl/status.h"
#include "ray_hixl/transfer.h"

namespace ray_hixl::transport {

class TransferState {
 public:
  // Turns the result that finish() was given into the one that everybody sees (a name for the object, counters). Run once, by the finish()
  // that wins, with no lock held and before anyone can see the end.
  using Settle = std::function<Status(Status)>;

  explicit TransferState(Deadline deadline, Settle settle = nullptr) : deadline_(deadline), settle_(std::move(settle)) {}
  TransferState(const TransferState&) = delete;
  TransferState& operator=(const TransferState&) = delete;

  [[nodiscard]] Deadline deadline() const { return deadline_; }

  // Asks it to end with `reason`; the first request wins. Runs the stop hook, once. No effect once done.
  void request_stop(const Status& reason);
  // Cheap: what movers ask before each part. Also true once the deadline passed.
  [[nodiscard]] bool stopping() const;
  // Why: the first request's reason, or kTransferTimeout. REQUIRES: stopping().
  [[nodiscard]] Status stop_reason() const;
  // Runs `hook` at the first request_stop (at once if there was one), in that thread. One hook; a later one replaces it.
  void set_stop_hook(std::function<void()> hook);

  // What it waits for just now, which is what it ends with if its deadline passes meanwhile; ok: for its bytes.
  void set_waiting(Status why);
  [[nodiscard]] Status waiting() const;

  // Ends it. The first call wins and gives true: callbacks run in this thread, the hook is dropped, waiters wake.
  bool finish(Status result);
  [[nodiscard]] bool done() const { return done_.load(std::memory_order_acquire) || process_.in_child(); }
  [[nodiscard]] bool wait(std::optional<std::chrono::nanoseconds> timeout);
  [[nodiscard]] Status result() const;  // REQUIRES: done()
  using Ending = std::function<void(const Status& result)>;
  // Runs `callback` before anyone can see the end, in the finishing thread; at once if there is a result already.
  void before_done(Ending callback);

  // It has come so far now; the last call for each counts.
  enum class Milestone : std::uint8_t { kLinked, kMoving, kMoved, kEnded };
  void reach(Milestone milestone) { reached_[static_cast<std::size_t>(milestone)].store(Clock::now(), std::memory_order_relaxed); }
  [[nodiscard]] TransferTimes times() const;  // REQUIRES: done()

  void add_bytes(control::TransportKind kind, std::uint64_t bytes);
  [[nodiscard]] std::vector<TransportBytes> bytes_by_transport() const;

 private:
  const Clock::time_point begun_ = Clock::now();
  std::array<std::atomic<Clock::time_point>, 4> reached_{};  // by milestone; the clock's epoch: it did not
  const Deadline deadline_;
  const Settle settle_;  // may be null
  const ProcessGuard process_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> done_{false};
  mutable Mutex mutex_;
  bool ending_ RAY_HIXL_GUARDED_BY(mutex_) = false;   // a finish() has won
  bool settled_ RAY_HIXL_GUARDED_BY(mutex_) = false;  // it has a result
  Condition ended_;
  Status reason_ RAY_HIXL_GUARDED_BY(mutex_);
  Status waiting_ RAY_HIXL_GUARDED_BY(mutex_);
  Status result_;  // written before settled_ and done_ are set, and constant from then on
  std::function<void()> stop_hook_ RAY_HIXL_GUARDED_BY(mutex_);
  std::vector<Ending> callbacks_ RAY_HIXL_GUARDED_BY(mutex_);
  std::array<std::atomic<std::uint64_t>, control::kTransportKinds> bytes_{};
};

}  // namespace ray_hixl::transport
