#include "runtime/streams.h"

#include <pthread.h>

#include <algorithm>
#include <map>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/calls.h"
#include "runtime/heap.h"

namespace fake_cann {
namespace {

struct Streams {
  std::mutex mutex;
  std::vector<Stream*> all;             // guarded by mutex, as below; a destroyed one leaves a null
  std::map<int, Stream*> default_ones;  // by visible device
  std::set<int> made_on;                // devices that have had a stream besides that
};

Streams& streams() {
  static Streams& instance = *new Streams;
  return instance;
}

std::chrono::microseconds delay_of(bool is_default) {
  static const long every = number_switch("FAKE_CANN_STREAM_DELAY_US", 0);
  static const long side = number_switch("FAKE_CANN_SIDE_DELAY_US", 0);
  return std::chrono::microseconds(every + (is_default ? 0 : side));
}

}  // namespace

Stream::Stream(int device, bool is_default) : device_(device), delay_(delay_of(is_default)) {
  std::thread([this] { run(); }).detach();
}

void Stream::run() {
  ::pthread_setname_np(::pthread_self(), "FAKE stream");  // else that of whoever used it first
  set_current_device(device_);
  while (true) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !tasks_.empty(); });
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    if (delay_.count() > 0) std::this_thread::sleep_for(delay_);
    task();
    task = nullptr;
    const std::lock_guard lock(mutex_);
    ++finished_;
    changed_.notify_all();
  }
}

void Stream::push(Task task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  ++pushed_;
  changed_.notify_all();
}

bool Stream::drain(int timeout_ms) {
  std::unique_lock lock(mutex_);
  const auto done = [this, target = pushed_] { return finished_ >= target; };
  if (timeout_ms >= 0) return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), done);
  changed_.wait(lock, done);
  return true;
}

bool Stream::idle() {
  const std::lock_guard lock(mutex_);
  return finished_ == pushed_;
}

Stream* stream_of(void* handle) {
  const std::lock_guard lock(streams().mutex);
  if (handle == nullptr) {
    Stream*& stream = streams().default_ones[current_device()];
    if (stream == nullptr) streams().all.push_back(stream = new Stream(current_device(), true));
    return stream;
  }
  const auto found = std::ranges::find(streams().all, static_cast<Stream*>(handle));
  return found == streams().all.end() ? nullptr : *found;
}

Stream* create_stream(int device) {
  const std::lock_guard lock(streams().mutex);
  const bool is_first = streams().made_on.insert(device).second;
  auto* stream = new Stream(device, is_first);
  streams().all.push_back(stream);
  return stream;
}

bool destroy_stream(void* handle) {
  Stream* const stream = handle == nullptr ? nullptr : stream_of(handle);
  if (stream == nullptr) return false;
  (void)stream->drain(-1);
  const std::lock_guard lock(streams().mutex);
  std::ranges::replace(streams().all, stream, nullptr);
  return true;
}

bool drain_device(int device, int timeout_ms) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  const auto left_ms = [&] {
    if (timeout_ms < 0) return timeout_ms;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    return static_cast<int>(std::max<std::int64_t>(0, left.count()));
  };
  std::vector<Stream*> all;
  {
    const std::lock_guard lock(streams().mutex);
    all = streams().all;
  }
  return std::ranges::all_of(all,
                             [&](Stream* stream) { return stream == nullptr || stream->device() != device || stream->drain(left_ms()); });
}

int stream_number(void* handle) {
  const std::lock_guard lock(streams().mutex);
  const auto found = std::ranges::find(streams().all, static_cast<Stream*>(handle));
  return handle == nullptr || found == streams().all.end() ? -1 : static_cast<int>(found - streams().all.begin());
}

void submit(Stream& stream, Task task) {
  static const bool async = number_switch("FAKE_CANN_ASYNC", 1) != 0;
  if (async) {
    stream.push(std::move(task));
  } else {
    task();
  }
}

std::uint64_t Event::ask() {
  const std::lock_guard lock(mutex_);
  return ++asked_;
}

void Event::reached(std::uint64_t recording) {
  const std::lock_guard lock(mutex_);
  reached_ = std::max(reached_, recording);
  when_ = std::chrono::steady_clock::now();
  changed_.notify_all();
}

void Event::wait(std::uint64_t recording) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return reached_ >= recording; });
}

std::uint64_t Event::asked() {
  const std::lock_guard lock(mutex_);
  return asked_;
}

bool Event::is_done() {
  const std::lock_guard lock(mutex_);
  return reached_ >= asked_;
}

std::chrono::steady_clock::time_point Event::when() {
  const std::lock_guard lock(mutex_);
  return when_;
}

}  // namespace fake_cann
