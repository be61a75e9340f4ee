// Remote: HIXL's link from one device here to one engine of a peer, and the moves that use it. A state machine; only the driver's thread
// calls it.
//
//   down -> connecting -> up -> draining -> (given up ->) disconnecting -> down
//
// A link shows the memory that both sides had registered when it was made. A move that needs newer memory has the link drained and made
// anew. A link that failed is taken down before anything else: until then late bytes may still arrive, so its moves end, or are tried
// again, only afterwards. For a link that is being made moves wait as long as a connect may take; HIXL's call may take longer, and what
// comes of it goes down again where nobody wants it by then.
//
// A device has few links at a time: moves wait for the turn of theirs, those first that came first. A link that nobody has used for long,
// or whose turn is over while others wait, ends what HIXL has of it and goes down; the moves that it still has wait for its next turn.
//
// No link is taken down while a request may still finish, since HIXL would leave a record of that request to whoever gets its slot next,
// who then is told of an end before it came. A link whose requests do not end in time is given up: it goes down once nothing else is in
// flight on the device, and with it the whole engine, after which its moves are let go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "transport/hixl/cann/hixl.h"
#include "transport/hixl/driver/counters.h"
#include "transport/hixl/driver/move.h"

namespace ray_hixl::transport::hixl {

// A connect of HIXL's may take so many times its timeout.
inline constexpr int kConnectStages = 5;

class Remote;

// What a Remote needs of its driver. Calls come from, and errands report back on, the driver's thread.
class RemoteHost {
 public:
  virtual ~RemoteHost() = default;
  [[nodiscard]] virtual Hixl& hixl() = 0;
  [[nodiscard]] virtual std::uint64_t local_epoch() const = 0;  // of what is registered here now
  [[nodiscard]] virtual std::uint64_t next_request() = 0;
  // Calls HIXL on a thread that may block, then `done` on the driver's thread.
  virtual void run(std::function<Outcome()> call, std::function<void(Outcome)> done) = 0;
  [[nodiscard]] virtual std::chrono::milliseconds connect_timeout() const = 0;
  // For how long requests that nobody wants any more may take to end, before their link is given up.
  [[nodiscard]] virtual std::chrono::milliseconds stall_timeout() const = 0;
  // An unused link goes down after it.
  [[nodiscard]] virtual std::chrono::nanoseconds idle_time() const = 0;
  [[nodiscard]] virtual DriverCounters& counters() = 0;
  // May links be made, and requests submitted? Not while the engine is being replaced.
  [[nodiscard]] virtual bool takes_moves() const = 0;
  // Is there room for another request of a link that has `mine` already?
  [[nodiscard]] virtual bool has_room(std::size_t mine) const = 0;
  // Rises with every call: who has the least has waited longest.
  [[nodiscard]] virtual std::uint64_t next_turn() = 0;
  // May this one link now? Others that have waited longer come first.
  [[nodiscard]] virtual bool has_turn(const Remote& remote) const = 0;
  // HIXL takes no other link just now. False where nothing here will change that: there are none.
  [[nodiscard]] virtual bool make_room() = 0;
  // For errors: which links and which slots there are.
  [[nodiscard]] virtual Status no_turn() const = 0;
  [[nodiscard]] virtual Status no_room() const = 0;
  // A link was given up: the engine takes no new moves and is replaced.
  virtual void taint() = 0;
  // After that: nothing else is in flight, so that links that were given up may go down.
  [[nodiscard]] virtual bool is_quiet() const = 0;
  // The engine ends now: nothing will use the slots of its requests again.
  [[nodiscard]] virtual bool is_closing() const = 0;
};

class Remote : public std::enable_shared_from_this<Remote> {
 public:
  // A request that HIXL has.
  struct Request {
    std::uint64_t id = 0;
    void* handle = nullptr;
    std::shared_ptr<Move> move;
  };

  Remote(RemoteHost& host, std::string name);

  void add(std::shared_ptr<Move> move);
  // Looks for moves that are to stop: those that HIXL does not have end at once, the others get a moment to finish by themselves.
  void heed_stops();
  // The channel is gone (null: all are): its moves end with `why`, and the link with them, unless others have used it, too, and HIXL has
  // none of its moves. Nothing to a link that it never used.
  void abandon(const void* channel, const Status& why);
  // HIXL is done with a request, well or not (`failure` says how).
  void finished(std::uint64_t id, const std::string& failure);
  // The peer wants its engine for itself: see Driver::recall().
  void recall(std::function<void()> then);
  // The engine is to be replaced: the link goes down once its requests have ended; `now`: it is given up if they have not.
  void retire(bool now);
  // The engine is gone: nothing arrives late from here on. REQUIRES: is_dirty(), and the link is down.
  void engine_is_gone();
  // Ends the moves that HIXL does not have.
  void end_waiting(const Status& why);
  // The link goes down, for others, once its requests have ended. REQUIRES: may_yield().
  void yield();
  // Something may be due: time passed, or others have let go of what HIXL was short of.
  void advance();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::vector<Request>& requests() const { return requests_; }
  // HIXL may hold a lock of this link for long.
  [[nodiscard]] bool disconnecting() const { return state_ == State::kDisconnecting; }
  [[nodiscard]] bool polls() const { return !requests_.empty() && (is_busy() || state_ == State::kGivenUp); }
  // It has requests that are expected to end.
  [[nodiscard]] bool is_busy() const { return !requests_.empty() && (state_ == State::kUp || state_ == State::kDraining); }
  // HIXL may still use it, or slots of its requests, until the engine is gone.
  [[nodiscard]] bool is_dirty() const { return dirty_; }
  [[nodiscard]] bool wants_room() const { return state_ == State::kUp && !waiting_.empty(); }
  [[nodiscard]] bool idle() const { return state_ == State::kDown && !dirty_ && waiting_.empty() && requests_.empty() && lost_.empty(); }
  [[nodiscard]] bool linked() const { return state_ != State::kDown; }
  // It will be down soon, as far as is known.
  [[nodiscard]] bool is_leaving() const { return linked() && state_ != State::kConnecting && state_ != State::kUp; }
  [[nodiscard]] bool wants_link() const;
  // Since when it waits for a link or for room, or was given some.
  [[nodiscard]] std::uint64_t turn() const { return turn_; }
  [[nodiscard]] bool may_yield() const { return state_ == State::kUp; }
  // Up, and nobody uses it.
  [[nodiscard]] bool is_unused() const { return state_ == State::kUp && waiting_.empty() && requests_.empty(); }
  [[nodiscard]] Deadline unused_until() const { return idle_at_; }
  // The end of the time that it has for itself while others wait.
  [[nodiscard]] Deadline turn_end() const { return turn_end_; }
  // When advance() is due without any other event.
  [[nodiscard]] std::optional<Deadline> due() const { return due_; }

 private:
  enum class State : std::uint8_t { kDown, kConnecting, kUp, kDraining, kGivenUp, kDisconnecting };

  void connect();
  void connected(const Outcome& outcome);
  void end_late();
  void advance_down();
  void give_way(const std::string& why);
  void disconnect();
  void disconnected(const Outcome& outcome);
  void end_with_engine(const Outcome& outcome);
  // Moves are tried again on another link: so many times after failures, and always where nothing failed.
  enum class Cause : std::uint8_t { kFailure, kGivenUp };
  void break_link(const std::string& why, Cause cause, std::chrono::milliseconds patience);
  void give_up();
  template <class Concerns>
  void end_waiting_if(Concerns concerns, const Status& why);
  void note_broken(const std::string& why, Cause cause);
  void let_go();
  void went_down();
  void submit();
  void close_if_unused();
  // What moves that HIXL does not have wait for, which their deadline's error says.
  enum class Wait : std::uint8_t { kNothing, kTurn, kRoom };
  void wait_for(Wait what);
  void tell_waiting(Move& move) const;
  [[nodiscard]] bool hold_back();
  [[nodiscard]] bool submit_chunk(const std::shared_ptr<Move>& move);
  void settle(const std::shared_ptr<Move>& move);
  void retry_or_end(const std::shared_ptr<Move>& move);
  void end_other_lives(const Incarnation& life);
  [[nodiscard]] bool out_of_patience();
  void wake_at(Deadline when);

  RemoteHost& host_;
  const std::string name_;
  const Text text_;
  State state_ = State::kDown;
  Incarnation life_{};              // of the peer that the link is or will be made to
  std::uint64_t known_epoch_ = 0;   // that the peer's memory is known to have reached in this life
  std::uint64_t remote_epoch_ = 0;  // what the link shows of the peer's memory,
  std::uint64_t local_epoch_ = 0;   // and of ours
  std::string broken_;              // why the link is being taken down; empty: to make it anew
  Cause cause_ = Cause::kGivenUp;   // the same
  bool late_ = false;               // while connecting: a move did not wait for it any more
  std::set<const void*> channels_;  // that have used it and are not gone
  std::deque<std::shared_ptr<Move>> waiting_;
  Wait wait_ = Wait::kNothing;
  std::uint64_t turn_ = 0;
  Deadline turn_end_ = Deadline::never();
  Deadline idle_at_ = Deadline::never();
  std::vector<Request> requests_;
  std::vector<std::shared_ptr<Move>> lost_;     // whose requests failed: tried again, or ended, once the link is down
  std::optional<Deadline> give_up_at_;          // a draining link
  std::vector<std::function<void()>> recalls_;  // run when it is down
  bool dirty_ = false;                          // it went down with requests in flight, or HIXL did not take it down
  std::optional<Deadline> due_;
  std::optional<Deadline> not_before_;  // no connecting until then
  std::optional<Deadline> busy_until_;  // HIXL was short of something: no reading until then, or until a request has ended
};

}  // namespace ray_hixl::transport::hixl
