// Streams and events: one worker thread per stream, tasks in order, optional delays. Any thread.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

namespace fake_cann {

using Task = std::function<void()>;

class Stream {
 public:
  // Never destroyed: its thread runs until the process ends.
  Stream(int device, bool is_default);

  void push(Task task);
  // Waits for what was pushed so far; false if `timeout_ms` passed first. Negative waits for ever.
  [[nodiscard]] bool drain(int timeout_ms);
  [[nodiscard]] bool idle();
  [[nodiscard]] int device() const { return device_; }

 private:
  void run();

  const int device_;
  const std::chrono::microseconds delay_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;  // guarded by mutex_, as below
  std::uint64_t pushed_ = 0;
  std::uint64_t finished_ = 0;
};

// What a caller's stream handle means: null is the default stream of the thread's device. Null if there is no such stream.
[[nodiscard]] Stream* stream_of(void* handle);
[[nodiscard]] Stream* create_stream(int device);
// Runs what is left and forgets the handle. False if there is no such stream.
[[nodiscard]] bool destroy_stream(void* handle);
[[nodiscard]] bool drain_device(int device, int timeout_ms);
// The number of a stream among all of the process; -1 if there is no such stream.
[[nodiscard]] int stream_number(void* handle);

// Pushes to a stream, or runs at once where FAKE_CANN_ASYNC=0.
void submit(Stream& stream, Task task);

// Counts its recordings: a wait is for those that were asked for when it was asked for.
class Event {
 public:
  [[nodiscard]] std::uint64_t ask();  // a recording is under way; its number
  void reached(std::uint64_t recording);
  void wait(std::uint64_t recording);
  [[nodiscard]] std::uint64_t asked();
  [[nodiscard]] bool is_done();  // also where nothing was ever recorded
  [[nodiscard]] std::chrono::steady_clock::time_point when();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint64_t asked_ = 0;  // guarded by mutex_, as below
  std::uint64_t reached_ = 0;
  std::chrono::steady_clock::time_point when_;
};

// Event handles point to a shared pointer, so that a destroyed event lives on in the tasks that use it.
using EventHandle = std::shared_ptr<Event>;
[[nodiscard]] inline EventHandle& event_of(void* handle) { return *static_cast<EventHandle*>(handle); }

}  // namespace fake_cann
