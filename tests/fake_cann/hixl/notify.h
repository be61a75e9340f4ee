// The notify of a slot: one flag of the device. A channel records it when a request's bytes have moved; the slot's stream waits for that,
// resets it and tells the caller. It knows nothing of who recorded it. Any thread.
#pragma once

#include <deque>
#include <memory>
#include <mutex>

namespace fake_hixl {

class Request;

class Notify {
 public:
  // The request's stream waits for it, behind those that wait already. A record that is there ends a wait at once. False if the stream was
  // aborted.
  [[nodiscard]] bool wait(std::shared_ptr<Request> request);
  // The bytes of `by` have moved: what waits longest has COMPLETED; the record stays if nothing waits.
  void record(const Request& by);
  // Nothing will be recorded for the request.
  void cancel(const Request& request);
  // The stream was aborted: nothing waits any more, and a record is reset.
  void abort();
  [[nodiscard]] bool is_recorded();

 private:
  std::mutex mutex_;
  std::deque<std::shared_ptr<Request>> waiting_;  // guarded by mutex_, as below
  bool is_recorded_ = false;
};

}  // namespace fake_hixl
