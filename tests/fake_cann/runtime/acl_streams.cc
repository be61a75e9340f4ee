// Streams and events.
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "runtime/calls.h"
#include "runtime/fake_cann.h"
#include "runtime/heap.h"
#include "runtime/streams.h"

using namespace fake_cann;

namespace {

int no_stream(const char* name) { return fail(kBadStream, std::string(name) + ": no such stream"); }

int synchronize(const char* name, void* handle, int timeout_ms) {
  if (const int earlier = sticky_error(); earlier != kOk) return earlier;
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return no_stream(name);
  return stream->drain(timeout_ms) ? static_cast<int>(kOk) : fail(kStreamTimeout, std::string(name) + ": the time is over");
}

int synchronize_device(const char* name, int timeout_ms) {
  if (const int earlier = sticky_error(); earlier != kOk) return earlier;
  return drain_device(current_device(), timeout_ms) ? static_cast<int>(kOk)
                                                    : fail(kStreamTimeout, std::string(name) + ": the time is over");
}

}  // namespace

extern "C" {

int aclrtCreateStream(void** handle) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  *handle = create_stream(current_device());
  return kOk;
}

int aclrtCreateStreamWithConfig(void** handle, std::uint32_t, std::uint32_t) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  *handle = create_stream(current_device());
  return kOk;
}

int aclrtDestroyStream(void* handle) {
  FAKE_CANN_ENTER();
  return destroy_stream(handle) ? static_cast<int>(kOk) : no_stream(__func__);
}

int aclrtDestroyStreamForce(void* handle) {
  FAKE_CANN_ENTER();
  return destroy_stream(handle) ? static_cast<int>(kOk) : no_stream(__func__);
}

int aclrtSynchronizeStream(void* handle) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  return synchronize(__func__, handle, -1);
}

int aclrtSynchronizeStreamWithTimeout(void* handle, std::int32_t timeout_ms) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  return synchronize(__func__, handle, timeout_ms);
}

int aclrtSynchronizeDevice(void) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  return synchronize_device(__func__, -1);
}

int aclrtSynchronizeDeviceWithTimeout(std::int32_t timeout_ms) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  return synchronize_device(__func__, timeout_ms);
}

// 0: everything is done; 1: not yet.
int aclrtStreamQuery(void* handle, int* status) {
  FAKE_CANN_ENTER();
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return no_stream(__func__);
  *status = stream->idle() ? 0 : 1;
  return kOk;
}

// Asks nothing of the caller's thread: a kernel that some library of its own launched.
int fake_cann_launch(void* handle, const char* until, long most_ms) {
  Stream* const stream = stream_of(handle);
  if (stream == nullptr) return no_stream(__func__);
  submit(*stream, [file = std::string(until == nullptr ? "" : until), most = std::chrono::milliseconds(most_ms)] {
    const auto end = std::chrono::steady_clock::now() + most;
    while (std::chrono::steady_clock::now() < end && (file.empty() || ::access(file.c_str(), F_OK) != 0)) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  });
  return kOk;
}

int aclrtStreamGetId(void* handle, std::int32_t* id) {
  FAKE_CANN_ENTER();
  *id = stream_number(handle);
  return *id >= 0 ? static_cast<int>(kOk) : no_stream(__func__);
}

int aclrtCreateEventExWithFlag(void** handle, std::uint32_t) {
  FAKE_CANN_ENTER();
  *handle = new EventHandle(std::make_shared<Event>());
  return kOk;
}

int aclrtCreateEventWithFlag(void** handle, std::uint32_t flag) { return aclrtCreateEventExWithFlag(handle, flag); }
int aclrtCreateEvent(void** handle) { return aclrtCreateEventExWithFlag(handle, 0); }

int aclrtDestroyEvent(void* handle) {
  FAKE_CANN_ENTER();
  const std::unique_ptr<EventHandle> event(&event_of(handle));
  return kOk;
}

int aclrtRecordEvent(void* handle, void* stream_handle) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  Stream* const stream = stream_of(stream_handle);
  if (stream == nullptr) return no_stream(__func__);
  const EventHandle event = event_of(handle);
  submit(*stream, [event, recording = event->ask()] { event->reached(recording); });
  return kOk;
}

int aclrtResetEvent(void*, void*) {
  FAKE_CANN_ENTER();
  return kOk;
}

int aclrtStreamWaitEvent(void* stream_handle, void* handle) {
  FAKE_CANN_ENTER();
  FAKE_CANN_NEED_CONTEXT();
  Stream* const stream = stream_of(stream_handle);
  if (stream == nullptr) return no_stream(__func__);
  const EventHandle event = event_of(handle);
  submit(*stream, [event, recording = event->asked()] { event->wait(recording); });
  return kOk;
}

int aclrtSynchronizeEvent(void* handle) {
  FAKE_CANN_ENTER();
  const EventHandle event = event_of(handle);
  event->wait(event->asked());
  return kOk;
}

// 1: what was recorded last is done, or nothing was ever recorded; 0: not yet.
int aclrtQueryEventStatus(void* handle, int* status) {
  FAKE_CANN_ENTER();
  *status = event_of(handle)->is_done() ? 1 : 0;
  return kOk;
}

// 0: complete; 1: not yet.
int aclrtQueryEventWaitStatus(void* handle, int* status) {
  FAKE_CANN_ENTER();
  *status = event_of(handle)->is_done() ? 0 : 1;
  return kOk;
}

int aclrtEventElapsedTime(float* milliseconds, void* start, void* end) {
  FAKE_CANN_ENTER();
  *milliseconds = std::chrono::duration<float, std::milli>(event_of(end)->when() - event_of(start)->when()).count();
  return kOk;
}

}  // extern "C"
