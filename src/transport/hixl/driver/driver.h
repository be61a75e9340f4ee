// Driver: the thread that submits to HIXL and polls it, for one device. HIXL has no event for a completion: while requests are in flight
// the thread polls, at first in a short spin, then with growing pauses of at most 200 us; otherwise it sleeps.
//
// It owns every Remote. Any thread may post; what is posted, and what comes back from errands, runs on the driver's thread.
//
// Where a link goes down with requests in flight, HIXL's engine cannot be trusted any more (see Remote). It takes no new moves, and once
// nothing else is in flight it is replaced by a fresh one; moves wait for that, at most until their deadline. The same quiet, without a
// fresh engine, lets memory be taken out that nobody uses any more.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/deadline.h"
#include "base/mutex.h"
#include "device/name.h"
#include "ray_hixl/status.h"
#include "transport/hixl/driver/connectors.h"
#include "transport/hixl/driver/remote.h"

namespace ray_hixl::transport::hixl {

class Driver final : public RemoteHost {
 public:
  using Task = std::function<void()>;

  struct Setup {
    std::int32_t device = 0;
    std::function<void()> prepare;  // runs first in each of its threads: it sets the device
    std::chrono::milliseconds connect_timeout{};
    std::chrono::milliseconds stall_timeout{};
    std::function<std::uint64_t()> local_epoch;  // of what is registered now; any thread
    // Ends the engine, if there still is one, and starts another that knows the same memory. On a thread that may block.
    std::function<Result<std::unique_ptr<Hixl>>(std::unique_ptr<Hixl> old)> renew;
    // Asks readers of other engines to take their links here down, or none where one cannot be asked and not `anyway`; `then` is told
    // whether all have, once they have or have had their time, on any thread.
    std::function<void(bool anyway, std::function<void(bool all)> then)> recall;
    std::function<void()> reopen;  // they may link again
    // Of all links together: HIXL takes 2 MiB of the device's memory for each, and they share its slots, which are as many. One reads up to
    // 4096 pieces, so that two keep a link busy.
    std::size_t most_requests = 16;
    std::size_t most_links = 64;  // at a time: peers beyond take turns
    std::chrono::nanoseconds idle_time = std::chrono::minutes(5);
  };
  explicit Driver(Setup setup);
  ~Driver() override;  // REQUIRES: stop(), if it was started
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // Before anything else. kOutOfMemory where no thread can be had.
  [[nodiscard]] Status start();
  // False after stop(): then the task is dropped.
  bool post(Task task);
  // Runs `task` on the thread and gives what it gives; kClosed after stop(), kTransferTimeout if the thread does not come to it.
  template <class T>
  [[nodiscard]] Result<T> call(std::function<Result<T>()> task) {
    return ask<T>([task = std::move(task)](const Answer<T>& answer) { answer(task()); });
  }
  // The same for a task that HIXL is to know of: waits while the engine is being replaced. Null: this device has none.
  template <class T>
  [[nodiscard]] Result<T> call_hixl(std::function<Result<T>(Hixl*)> task) {
    return ask<T>([this, task = std::move(task)](const Answer<T>& answer) {
      with_hixl([task, answer](const Result<Hixl*>& hixl) { answer(hixl.is_ok() ? task(*hixl) : Result<T>(hixl.status())); });
    });
  }

  // The same for a task that may take long: on a thread of its own that has the device.
  template <class T>
  [[nodiscard]] Result<T> call_errand(std::function<Result<T>()> task) {
    return ask<T>([task = std::move(task)](const Answer<T>& answer) { answer(task()); }, &Driver::run_errand);
  }
  // For a call that may block for long: on a thread of its own that has the device. After stop() it is dropped. Any thread.
  [[nodiscard]] Status run_errand(Connectors::Errand errand) { return connectors_.run(std::move(errand)); }

  // HIXL is there from now on; null: no more. Without a first one the device has none. Driver's thread.
  void use(std::unique_ptr<Hixl> hixl) {
    has_hixl_ = true;
    hixl_ = std::move(hixl);
  }
  // Null before use(), and while the engine is being replaced.
  [[nodiscard]] Hixl* hixl_or_null() { return hixl_.get(); }

  // Starts a move to the peer's engine `name`. Any thread. After stop() it ends as closed.
  void submit(const std::string& name, std::shared_ptr<Move> move);
  // The link to the peer's engine `name` goes down once its requests have ended; moves that wait for it end as recalled. Then `then` runs,
  // on the driver's thread; at once where there is no link. Any thread.
  void recall(const std::string& name, std::function<void()> then);
  // See Remote. Any thread; return at once.
  void heed_stops();
  void abandon(const void* channel, const Status& why);
  // Links that are not down. Driver's thread.
  [[nodiscard]] bool has_links() const;
  // Has all links here and the readers of other engines let go for a moment, if all of them do so in time: link_down runs then. Driver's
  // thread.
  void ask_for_room();
  // The engine is replaced even if nothing is wrong with its requests: nobody can link to it. Driver's thread.
  void replace();
  // Runs on the driver's thread when a link went down.
  void set_link_down(Task task) { link_down_ = std::move(task); }

  // Ends every move with kClosed, takes the links down, runs `last` on the driver's thread, and joins. False if HIXL did not let go of a
  // link until `deadline`: then the thread and HIXL are left to themselves and `last` does not run.
  [[nodiscard]] bool stop(Deadline deadline, const Task& last);
  [[nodiscard]] bool on_thread() const { return std::this_thread::get_id() == thread_.get_id(); }
  [[nodiscard]] const DriverCounters& counters() const { return counters_; }

  // RemoteHost.
  [[nodiscard]] Hixl& hixl() override { return *hixl_; }
  [[nodiscard]] std::uint64_t local_epoch() const override { return setup_.local_epoch(); }
  [[nodiscard]] std::uint64_t next_request() override { return next_request_++; }
  void run(std::function<Outcome()> call, std::function<void(Outcome)> done) override;
  [[nodiscard]] std::chrono::milliseconds connect_timeout() const override { return setup_.connect_timeout; }
  [[nodiscard]] std::chrono::milliseconds stall_timeout() const override { return setup_.stall_timeout; }
  [[nodiscard]] std::chrono::nanoseconds idle_time() const override { return setup_.idle_time; }
  [[nodiscard]] DriverCounters& counters() override { return counters_; }
  [[nodiscard]] bool takes_moves() const override { return !quieting_ && hixl_ != nullptr; }
  [[nodiscard]] bool has_room(std::size_t mine) const override;
  [[nodiscard]] std::uint64_t next_turn() override { return next_turn_++; }
  [[nodiscard]] bool has_turn(const Remote& remote) const override;
  [[nodiscard]] bool make_room() override;
  [[nodiscard]] Status no_turn() const override;
  [[nodiscard]] Status no_room() const override;
  void taint() override;
  [[nodiscard]] bool is_quiet() const override;
  [[nodiscard]] bool is_closing() const override { return closing_; }

 private:
  static constexpr std::chrono::seconds kCallTime{60};
  using HixlTask = std::function<void(const Result<Hixl*>& hixl)>;
  template <class T>
  using Answer = std::function<void(Result<T>)>;
  // Where a task of ask() is to run: on the thread, or as an errand. Not ok, and why, if it will not.
  using Place = Status (Driver::*)(Task task);
  [[nodiscard]] Status on_the_thread(Task task) { return post(std::move(task)) ? Status::ok() : closed(); }
  // The caller's part of ask(): given an answer once, or none where the task was dropped.
  template <class T>
  class Question {
   public:
    explicit Question(Status if_dropped) : if_dropped_(std::move(if_dropped)) {}
    ~Question() {
      if (!given_) promise_.set_value(if_dropped_);
    }
    Question(const Question&) = delete;
    Question& operator=(const Question&) = delete;
    [[nodiscard]] std::future<Result<T>> answer() { return promise_.get_future(); }
    void give(Result<T> result) {
      given_ = true;
      promise_.set_value(std::move(result));
    }

   private:
    std::promise<Result<T>> promise_;
    const Status if_dropped_;
    bool given_ = false;
  };
  // Runs `begin` there, which gives the answer then or later, once.
  template <class T>
  [[nodiscard]] Result<T> ask(std::function<void(const Answer<T>& answer)> begin, Place place = &Driver::on_the_thread) {
    auto question = std::make_shared<Question<T>>(closed());
    std::future<Result<T>> answer = question->answer();
    RAY_HIXL_RETURN_IF_ERROR((this->*place)([question = std::move(question), begin = std::move(begin)] {
      begin([question](Result<T> result) { question->give(std::move(result)); });
    }));
    if (answer.wait_for(kCallTime) == std::future_status::ready) return answer.get();
    return Status(Code::kTransferTimeout,
                  "the driver of " + device::npu_name(setup_.device) + " does not answer; is the device hung? npu-smi info");
  }
  [[nodiscard]] Status closed() const;
  void work();
  void run_tasks();
  void advance_all();
  void give_turns();
  [[nodiscard]] Remote* least_recently_used() const;
  [[nodiscard]] Remote* longest_busy(std::uint64_t turn) const;
  void begin_quiet();
  void advance_renewal();
  void renew();
  void renewed(Result<std::unique_ptr<Hixl>> hixl);
  void end_renewal();
  void let_go_of_dirty();
  void with_hixl(HixlTask task);
  [[nodiscard]] bool in_flight() const;
  [[nodiscard]] bool poll();
  [[nodiscard]] bool poll_together();
  [[nodiscard]] bool poll_each();
  void wait();
  void pause_between_polls();
  void begin_to_spin();
  void end_everything(const Status& why);

  const Setup setup_;
  Connectors connectors_;
  DriverCounters counters_;

  // Driver's thread only.
  std::unique_ptr<Hixl> hixl_;
  bool has_hixl_ = false;  // or will have it again
  std::map<std::string, std::shared_ptr<Remote>> remotes_;
  std::vector<Remote*> by_turn_;  // the same, those first that have waited longest; of advance_all()
  std::uint64_t next_request_ = 1;
  std::uint64_t next_turn_ = 1;
  std::vector<PollResult> results_;
  Task link_down_;
  bool asking_ = false;      // readers, to let go for a moment
  bool quieting_ = false;    // every link goes down, and none is made
  bool tainted_ = false;     // and the engine is replaced then
  bool unlinkable_ = false;  // and that in any case: nobody can link to it
  bool recalled_ = false;    // readers of other engines have let go, or had their time
  bool renewing_ = false;
  std::optional<Deadline> quiet_by_;     // requests that have not ended by then: given up, too, or left alone where nothing is tainted
  std::optional<Deadline> renew_after_;  // no other try until then
  int failed_renewals_ = 0;              // in a row
  std::vector<HixlTask> deferred_;       // until there is an engine again
  bool closing_ = false;
  bool finished_ = false;
  std::function<void()> when_idle_;
  Clock::time_point last_poll_{};
  Clock::time_point spin_until_{};
  std::chrono::microseconds pause_{};

  Mutex mutex_;
  Condition posted_;
  std::vector<Task> tasks_ RAY_HIXL_GUARDED_BY(mutex_);
  bool stopped_ RAY_HIXL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // set by start()
};

}  // namespace ray_hixl::transport::hixl
