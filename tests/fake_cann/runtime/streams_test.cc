// Streams here are slow on purpose (20 ms a task), so that whoever forgets to wait sees stale bytes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "runtime/acl.h"

namespace fake_cann {
namespace {

[[maybe_unused]] const bool slow_streams = [] {
  ::setenv("FAKE_CANN_STREAM_DELAY_US", "20000", 1);
  return true;
}();

// Such tests read device memory while a stream writes to it, on purpose.
#define FAKE_CANN_SKIP_IF_RACES_ARE_REPORTED()                                      \
  if (std::string_view(RAY_HIXL_SANITIZE).find("thread") != std::string_view::npos) \
  GTEST_SKIP() << "ThreadSanitizer would report what this shows"

class FakeStreams : public testing::Test {
 protected:
  FakeStreams() {
    EXPECT_EQ(aclrtSetDevice(0), kOk);
    EXPECT_EQ(aclrtMalloc(&device, 512, kHugeFirst), kOk);
    EXPECT_EQ(aclrtMemset(device, 512, 1, 512), kOk);
    EXPECT_EQ(aclrtCreateStream(&stream), kOk);
    EXPECT_EQ(aclrtCreateEvent(&event), kOk);
  }
  ~FakeStreams() override {
    EXPECT_EQ(aclrtDestroyEvent(event), kOk);
    EXPECT_EQ(aclrtDestroyStream(stream), kOk);
    EXPECT_EQ(aclrtFree(device), kOk);
  }
  // What a reader sees that does not wait for any stream.
  [[nodiscard]] char now() const {
    char byte = 0;
    EXPECT_EQ(aclrtMemcpy(&byte, 1, device, 1, kDeviceToHost), kOk);
    return byte;
  }
  void write_later(char value, void* on) const { EXPECT_EQ(aclrtMemcpyAsync(device, 512, &value, 1, kHostToDevice, on), kOk); }

  void* device = nullptr;
  void* stream = nullptr;
  void* event = nullptr;
};

TEST_F(FakeStreams, show_who_forgets_to_wait) {
  FAKE_CANN_SKIP_IF_RACES_ARE_REPORTED();
  write_later(2, stream);
  EXPECT_EQ(now(), 1) << "stale";
  EXPECT_EQ(aclrtSynchronizeStream(stream), kOk);
  EXPECT_EQ(now(), 2);
}

TEST_F(FakeStreams, keep_their_order_and_wait_for_events_of_others) {
  write_later(2, stream);
  EXPECT_EQ(aclrtRecordEvent(event, stream), kOk);
  EXPECT_EQ(aclrtStreamWaitEvent(nullptr, event), kOk);
  write_later(3, nullptr);
  int status = -1;
  EXPECT_EQ(aclrtQueryEventStatus(event, &status), kOk);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(aclrtSynchronizeStream(nullptr), kOk);
  EXPECT_EQ(now(), 3);
  EXPECT_EQ(aclrtQueryEventStatus(event, &status), kOk);
  EXPECT_EQ(status, 1);
}

TEST_F(FakeStreams, events_wait_for_what_was_recorded_when_they_were_asked) {
  EXPECT_EQ(aclrtSynchronizeEvent(event), kOk) << "nothing was recorded";
  write_later(2, stream);
  EXPECT_EQ(aclrtRecordEvent(event, stream), kOk);
  EXPECT_EQ(aclrtSynchronizeEvent(event), kOk);
  EXPECT_EQ(now(), 2);
}

TEST_F(FakeStreams, can_be_waited_for_with_a_limit_or_asked) {
  write_later(2, stream);
  int status = -1;
  EXPECT_EQ(aclrtStreamQuery(stream, &status), kOk);
  EXPECT_EQ(status, 1);
  EXPECT_EQ(aclrtSynchronizeStreamWithTimeout(stream, 1), kStreamTimeout);
  EXPECT_EQ(aclrtSynchronizeDevice(), kOk);
  EXPECT_EQ(aclrtStreamQuery(stream, &status), kOk);
  EXPECT_EQ(status, 0);
}

TEST_F(FakeStreams, all_have_one_time_where_the_device_is_waited_for) {
  void* other = nullptr;
  EXPECT_EQ(aclrtCreateStream(&other), kOk);
  EXPECT_EQ(fake_cann_launch(stream, nullptr, 200), kOk);
  EXPECT_EQ(fake_cann_launch(other, nullptr, 400), kOk);
  EXPECT_EQ(aclrtSynchronizeDeviceWithTimeout(250), kStreamTimeout) << "and not 250 ms each";
  EXPECT_EQ(aclrtSynchronizeDeviceWithTimeout(10000), kOk);
  EXPECT_EQ(aclrtDestroyStream(other), kOk);
}

TEST_F(FakeStreams, wait_in_a_kernel_for_what_somebody_else_does) {
  const std::string file = testing::TempDir() + "fake_cann_kernel_" + std::to_string(::getpid());
  EXPECT_EQ(fake_cann_launch(stream, file.c_str(), 10000), kOk);
  int status = -1;
  EXPECT_EQ(aclrtSynchronizeStreamWithTimeout(stream, 100), kStreamTimeout);
  EXPECT_EQ(aclrtStreamQuery(stream, &status), kOk);
  EXPECT_EQ(status, 1);
  std::ofstream(file).put('x');
  EXPECT_EQ(aclrtSynchronizeStream(stream), kOk);
  EXPECT_EQ(std::remove(file.c_str()), 0);
  EXPECT_EQ(fake_cann_launch(event, nullptr, 1), kBadStream);
}

TEST_F(FakeStreams, read_pageable_memory_at_the_call_and_pinned_memory_later) {
  FAKE_CANN_SKIP_IF_RACES_ARE_REPORTED();
  char pageable = 2;
  EXPECT_EQ(aclrtMemcpyAsync(device, 512, &pageable, 1, kHostToDevice, stream), kOk);
  pageable = 9;
  EXPECT_EQ(aclrtSynchronizeStream(stream), kOk);
  EXPECT_EQ(now(), 2);
  void* pinned = nullptr;
  EXPECT_EQ(aclrtMallocHost(&pinned, 1), kOk);
  *static_cast<char*>(pinned) = 3;
  EXPECT_EQ(aclrtMemcpyAsync(device, 512, pinned, 1, kHostToDevice, stream), kOk);
  *static_cast<char*>(pinned) = 4;
  EXPECT_EQ(aclrtSynchronizeStream(stream), kOk);
  EXPECT_EQ(now(), 4);
  EXPECT_EQ(aclrtFreeHost(pinned), kOk);
}

TEST_F(FakeStreams, that_were_destroyed_are_refused) {
  void* other = nullptr;
  EXPECT_EQ(aclrtCreateStream(&other), kOk);
  write_later(2, other);
  EXPECT_EQ(aclrtDestroyStream(other), kOk);
  EXPECT_EQ(now(), 2) << "what was under way was finished";
  EXPECT_EQ(aclrtSynchronizeStream(other), kBadStream);
  EXPECT_EQ(aclrtDestroyStream(other), kBadStream);
}

}  // namespace
}  // namespace fake_cann
