// One transfer: which bytes go where, what becomes of it, and how it ended. Any thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "hixl/faults.h"
#include "hixl/peer.h"
#include "hixl/regions.h"
#include "hixl/slots.h"

namespace fake_hixl {

// What a link moves bytes over. Constant while the link is up; late bytes may outlive the link.
struct Path {
  Snapshot local;
  Snapshot remote;
  std::unique_ptr<Peer> peer;
};

// Bytes that lie inside of one region on both sides.
struct Move {
  const Region* local = nullptr;
  std::size_t local_inside = 0;
  const Region* remote = nullptr;
  std::size_t remote_inside = 0;
  std::size_t length = 0;
  bool ends_descriptor = false;
};

class Request {
 public:
  enum class State { kWaiting, kCompleted, kFailed };

  Request(hixl::TransferOp op, std::vector<Move> moves, Fate fate, void* user_data, std::shared_ptr<const Lease> lease)
      : op_(op), moves_(std::move(moves)), fate_(fate), user_data_(user_data), lease_(std::move(lease)) {}

  [[nodiscard]] hixl::TransferOp op() const { return op_; }
  [[nodiscard]] const std::vector<Move>& moves() const { return moves_; }
  [[nodiscard]] const Fate& fate() const { return fate_; }
  [[nodiscard]] void* user_data() const { return user_data_; }
  // Null where an engine has no slots.
  [[nodiscard]] const Lease* lease() const { return lease_.get(); }

  // The first end counts. `code` is what the poll answers.
  void finish(State state, Status code);
  [[nodiscard]] State state() const;
  [[nodiscard]] Status code() const;
  // False if it still waits then.
  [[nodiscard]] bool wait_until(Deadline deadline);

  // The caller no longer waits for it.
  void abandon() { is_abandoned_ = true; }
  [[nodiscard]] bool is_abandoned() const { return is_abandoned_; }

 private:
  const hixl::TransferOp op_;
  const std::vector<Move> moves_;
  const Fate fate_;
  void* const user_data_;
  const std::shared_ptr<const Lease> lease_;
  mutable std::mutex mutex_;
  std::condition_variable ended_;
  State state_ = State::kWaiting;  // guarded by mutex_, as below
  Status code_ = hixl::kSuccess;
  std::atomic<bool> is_abandoned_{false};
};

}  // namespace fake_hixl
