// Delivery: one job of the hixl channel, from its pieces to its end.
//
//   locate what has no address yet -> describe the peer's engines -> move -> (ask whether the source was still live)
//
// A peer may replace an engine, which then has another name: a move that meets nobody asks for the description again. While it replaces one
// it describes none. All that is waited for before HIXL moves has half of the transfer's time together, if another channel can have the
// job.
//
// Its channel keeps it until the job has ended, and HIXL's moves do; the answers that it waits for do not: they may never come. The job
// ends exactly once: while HIXL has none of it, as soon as somebody wants it to; otherwise when the last move has ended. Any thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "base/deadline.h"
#include "base/mutex.h"
#include "transport/hixl/locator.h"
#include "transport/hixl/npus.h"
#include "transport/hixl/route.h"
#include "transport/hixl/unlinked.h"
#include "transport/job.h"
#include "transport/transport.h"

namespace ray_hixl::transport::hixl {

// What all deliveries of a channel share. Outlives the channel as long as there are any.
struct DeliveryContext {
  const Context& engine;
  Npus& npus;
  const PeerView& peer;
  const std::shared_ptr<Locator> locator;
  const bool same_process;
  const std::function<Status()> state;  // of the channel: ok until it is closed
  const std::shared_ptr<Unlinked> unlinked = std::make_shared<Unlinked>();
};

class Delivery : public std::enable_shared_from_this<Delivery> {
 public:
  using Ended = std::function<void(const Delivery&)>;

  // `channel`: whose moves they are. `ended` runs just before the job ends.
  Delivery(std::shared_ptr<const DeliveryContext> context, const void* channel, std::shared_ptr<Job> job, Ended ended);
  void start();
  // Ends the job now if nothing writes for it; otherwise its moves have to be stopped.
  void end_if_still(const Status& why);
  [[nodiscard]] bool stopping() const { return transfer_->stopping(); }
  [[nodiscard]] const std::shared_ptr<TransferState>& transfer() const { return transfer_; }

 private:
  void locate();
  void located(std::size_t source, Result<Locator::Ranges> ranges);
  [[nodiscard]] bool awaits_peer();
  void bound_wait();
  void give_way();
  [[nodiscard]] std::vector<std::size_t> undescribed();
  void plan_routes();
  void describe();
  void described(std::size_t route, const Result<Locator::Description>& description);
  [[nodiscard]] Status check_peer_engine(const control::DeviceDescription& description, const Route& route) const;
  [[nodiscard]] Status check_same_npu(std::uint32_t npu) const;
  void move();
  [[nodiscard]] Status check_unlinked();
  [[nodiscard]] bool has_another_way();
  void submit(std::size_t route);
  void moved(std::size_t route, Move& move, const Status& status);
  [[nodiscard]] bool may_have_moved(std::size_t route, const Move& move, const Status& status) const;
  void tell_of_refusal(std::size_t route, const Status& failure);
  void describe_again(std::size_t route, bool is_another, const Status& failure);
  void heed_ends();
  void note_unlinked(const Route& route, const Status& why, std::chrono::seconds time);
  void note_late(const Route& route, const Status& why);
  void note_linked(const Route& route);
  void finished(std::size_t route, bool moved, const Status& status);
  void confirm(const Status& moved);
  void end(const Status& status);
  void end(const std::shared_ptr<Job>& taken, const Status& status);
  [[nodiscard]] std::shared_ptr<Job> take(bool only_if_still);

  const std::shared_ptr<const DeliveryContext> context_;
  const void* const channel_;
  const std::shared_ptr<TransferState> transfer_;
  const Ended ended_;
  const bool hosts_have_another_way_;
  const Deadline gives_way_at_;  // when another channel is to have the job, unless HIXL has a link for it
  // Each is filled under mutex_ or by one thread, and constant once the step that fills it has ended.
  std::vector<Locator::Ranges> located_;  // by source
  std::vector<Route> routes_;
  std::vector<Locator::Description> descriptions_;  // by route

  Mutex mutex_;
  std::shared_ptr<Job> job_ RAY_HIXL_GUARDED_BY(mutex_);  // null once it ended
  std::size_t missing_ RAY_HIXL_GUARDED_BY(mutex_) = 0;   // answers or moves
  std::size_t moving_ RAY_HIXL_GUARDED_BY(mutex_) = 0;    // moves that may write
  Status error_ RAY_HIXL_GUARDED_BY(mutex_);              // the first one
};

}  // namespace ray_hixl::transport::hixl
