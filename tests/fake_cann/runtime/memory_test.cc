#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "runtime/acl.h"

namespace fake_cann {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::string recent_error() {
  const char* text = aclGetRecentErrMsg();
  return text == nullptr ? "" : text;
}

class FakeMemory : public testing::Test {
 protected:
  FakeMemory() { EXPECT_EQ(aclrtSetDevice(0), kOk); }
  static void* take(std::size_t size, int policy = kHugeFirst) {
    void* pointer = nullptr;
    EXPECT_EQ(aclrtMalloc(&pointer, size, policy), kOk);
    return pointer;
  }
};

TEST_F(FakeMemory, goes_there_and_back) {
  const std::vector<char> sent(5000, 'x');
  std::vector<char> received(5000);
  void* const device = take(5000);
  EXPECT_EQ(aclrtMemcpy(device, 5000, sent.data(), 5000, kHostToDevice), kOk);
  EXPECT_EQ(aclrtMemcpy(received.data(), 5000, device, 5000, kByPointers), kOk);
  EXPECT_EQ(received, sent);
  EXPECT_EQ(aclrtFree(device), kOk);
}

TEST_F(FakeMemory, faults_where_the_cpu_touches_it) {
  auto* const device = static_cast<volatile char*>(take(100));
  const auto touch = [&] {
    std::signal(SIGSEGV, SIG_DFL);  // not the sanitizers' own
    device[0] = 1;
  };
  EXPECT_EXIT(touch(), testing::KilledBySignal(SIGSEGV), "");
  EXPECT_EQ(::write(STDOUT_FILENO, const_cast<char*>(device), 1), -1) << "nor can the kernel read it for somebody";
  EXPECT_EQ(aclrtFree(const_cast<char*>(device)), kOk);
}

TEST_F(FakeMemory, is_poisoned_when_it_is_given_out) {
  void* const device = take(64);
  std::vector<unsigned char> bytes(64);
  EXPECT_EQ(aclrtMemcpy(bytes.data(), 64, device, 64, kDeviceToHost), kOk);
  EXPECT_THAT(bytes, Each(0xA5));
  EXPECT_EQ(aclrtFree(device), kOk);
}

TEST_F(FakeMemory, is_aligned_as_its_policy_says) {
  void* const small = take(100);
  void* const huge = take(100, kHugeOnly);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(small) % 512, 0u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(huge) % (2 * kMiB), 0u);
  void* base = nullptr;
  std::size_t size = 0;
  EXPECT_EQ(aclrtMemGetAddressRange(static_cast<char*>(huge) + 50, &base, &size), kOk);
  EXPECT_EQ(base, huge);
  EXPECT_EQ(size, 2 * kMiB);
  EXPECT_EQ(aclrtFree(small), kOk);
  EXPECT_EQ(aclrtFree(huge), kOk);
}

TEST_F(FakeMemory, refuses_what_a_device_would_punish_later) {
  void* const device = take(512);
  std::vector<char> host(1024);
  EXPECT_EQ(aclrtMemcpy(device, 512, host.data(), 513, kHostToDevice), kBadParameter);
  EXPECT_EQ(aclrtMemcpy(device, 1024, host.data(), 1024, kHostToDevice), kBadParameter);
  EXPECT_THAT(recent_error(), HasSubstr("outside of a live allocation"));
  EXPECT_EQ(aclrtMemcpy(device, 512, host.data(), 512, kDeviceToHost), kBadParameter);
  EXPECT_THAT(recent_error(), HasSubstr("does not fit the pointers"));
  EXPECT_EQ(aclrtFree(static_cast<char*>(device) + 8), kBadParameter);
  EXPECT_EQ(aclrtFree(host.data()), kBadParameter);
  EXPECT_EQ(aclrtFree(device), kOk);
  EXPECT_EQ(aclrtMemcpy(device, 512, host.data(), 512, kHostToDevice), kBadParameter) << "use after free";
  EXPECT_EQ(aclrtFree(device), kBadParameter);
  EXPECT_EQ(recent_error(), "FAKE CANN: aclrtFree: not an address that aclrtMalloc gave");
  EXPECT_EQ(recent_error(), "") << "it is fetched once";
}

TEST_F(FakeMemory, can_run_out) {
  void* pointer = nullptr;
  EXPECT_EQ(aclrtMalloc(&pointer, std::size_t{1} << 40, kHugeFirst), kOutOfMemory);
  EXPECT_EQ(aclrtMalloc(&pointer, 0, kHugeFirst), kBadParameter);
  std::size_t free_bytes = 0;
  std::size_t total = 0;
  EXPECT_EQ(aclrtGetMemInfo(1, &free_bytes, &total), kOk);
  EXPECT_LE(free_bytes, total);
}

TEST_F(FakeMemory, of_the_host_is_pinned) {
  void* host = nullptr;
  EXPECT_EQ(aclrtMallocHost(&host, 100), kOk);
  static_cast<char*>(host)[99] = 1;
  EXPECT_EQ(fake_cann_is_pinned_host(host, 100), 1);
  std::vector<std::uint32_t> attributes(7);
  EXPECT_EQ(aclrtPointerGetAttributes(host, attributes.data()), kOk);
  EXPECT_EQ(attributes[1], kHostPinned);
  EXPECT_EQ(aclrtPointerGetAttributes(&host, attributes.data()), kOk);
  EXPECT_EQ(attributes[1], kUnregistered);
  EXPECT_EQ(aclrtFreeHost(host), kOk);
  EXPECT_EQ(aclrtFreeHost(host), kBadParameter);
}

TEST_F(FakeMemory, is_found_by_other_parts_of_the_fake) {
  EXPECT_EQ(aclrtSetDevice(1), kOk);
  void* const device = take(1000);
  int number = -1;
  std::size_t offset = 0;
  EXPECT_EQ(fake_cann_find(static_cast<char*>(device) + 24, 976, &number, &offset), 0);
  EXPECT_EQ(number, 1);
  EXPECT_EQ(fake_cann_find(device, 4096, &number, &offset), 1);
  EXPECT_EQ(fake_cann_find(&number, 4, &number, &offset), 2);
  const char byte = 'q';
  EXPECT_EQ(fake_cann_find(device, 1, &number, &offset), 0);
  EXPECT_EQ(::pwrite(fake_cann_heap_fd(number), &byte, 1, static_cast<off_t>(offset)), 1);
  char read = 0;
  EXPECT_EQ(aclrtMemcpy(&read, 1, device, 1, kDeviceToHost), kOk);
  EXPECT_EQ(read, 'q');
  EXPECT_EQ(aclrtFree(device), kOk);
}

TEST_F(FakeMemory, can_be_mapped_where_the_caller_reserved) {
  void* address = nullptr;
  EXPECT_EQ(aclrtReserveMemAddress(&address, 8 * kMiB, 0, nullptr, 0), kOk);
  const std::uint32_t properties[8] = {};
  void* physical = nullptr;
  EXPECT_EQ(aclrtMallocPhysical(&physical, kMiB, properties, 0), kBadParameter) << "no multiple of 2 MiB";
  EXPECT_EQ(aclrtMallocPhysical(&physical, 2 * kMiB, properties, 0), kOk);
  EXPECT_EQ(aclrtMapMem(address, 2 * kMiB, 0, physical, 0), kOk);
  EXPECT_EQ(aclrtMemset(static_cast<char*>(address) + 100, 10, 7, 10), kOk);
  char byte = 0;
  EXPECT_EQ(aclrtMemcpy(&byte, 1, static_cast<char*>(address) + 109, 1, kDeviceToHost), kOk);
  EXPECT_EQ(byte, 7);
  EXPECT_EQ(aclrtUnmapMem(address), kOk);
  EXPECT_EQ(aclrtMemset(address, 10, 7, 10), kBadParameter);
  EXPECT_EQ(aclrtFreePhysical(physical), kOk);
}

TEST(FakeContext, belongs_to_a_thread) {
  std::thread([] {
    std::int32_t device = -1;
    void* pointer = nullptr;
    EXPECT_EQ(aclrtGetDevice(&device), kNoContext);
    EXPECT_EQ(aclrtMalloc(&pointer, 10, kHugeFirst), kNoContext);
    EXPECT_EQ(aclrtSetDevice(2), kBadDevice);
    EXPECT_EQ(aclrtSetDevice(1), kOk);
    void* context = nullptr;
    EXPECT_EQ(aclrtGetCurrentContext(&context), kOk);
    EXPECT_EQ(aclrtSetDevice(0), kOk);
    EXPECT_EQ(aclrtSetCurrentContext(context), kOk);
    EXPECT_EQ(aclrtGetDevice(&device), kOk);
    EXPECT_EQ(device, 1);
    EXPECT_EQ(aclrtSetCurrentContext(nullptr), kBadParameter);
  }).join();
}

TEST(FakeContext, is_initialised_once) {
  EXPECT_EQ(aclInit(nullptr), kOk);
  EXPECT_EQ(aclInit(nullptr), kRepeatedInit);
}

// Switches are read once in a process: each of these runs in a new one.
class FakeSwitches : public testing::Test {
 protected:
  FakeSwitches() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  ~FakeSwitches() override {
    ::unsetenv("ASCEND_RT_VISIBLE_DEVICES");
    ::unsetenv("FAKE_CANN_STRICT");
  }
  [[noreturn]] static void exit_with_the_number_of_devices() {
    std::uint32_t devices = 0;
    (void)aclrtGetDeviceCount(&devices);
    ::_exit(static_cast<int>(devices));
  }
  static void allocate_without_a_context() {
    std::thread([] {
      void* pointer = nullptr;
      (void)aclrtMalloc(&pointer, 10, kHugeFirst);
    }).join();
  }
};

TEST_F(FakeSwitches, choose_the_visible_devices) {
  EXPECT_EXIT(exit_with_the_number_of_devices(), testing::ExitedWithCode(2), "");
  for (const auto& [visible, expected] : {std::pair{"0,1", 2}, {"1", 1}, {"1,0", 1}, {"0,7", 1}, {"", 0}, {"x", 0}}) {
    ::setenv("ASCEND_RT_VISIBLE_DEVICES", visible, 1);
    EXPECT_EXIT(exit_with_the_number_of_devices(), testing::ExitedWithCode(expected), "") << visible;
  }
}

TEST_F(FakeSwitches, end_a_process_that_does_what_no_product_may) {
  ::setenv("FAKE_CANN_STRICT", "1", 1);
  EXPECT_EXIT((void)aclFinalize(), testing::ExitedWithCode(87), "FAKE CANN: aclFinalize was called by");
  EXPECT_EXIT(allocate_without_a_context(), testing::ExitedWithCode(87), "FAKE CANN: aclrtMalloc was called by");
}

TEST(FakeCalls, are_counted) {
  fake_cann_reset_calls();
  std::uint32_t count = 0;
  (void)aclrtGetDeviceCount(&count);
  (void)aclrtGetDeviceCount(&count);
  EXPECT_EQ(fake_cann_calls("aclrtGetDeviceCount"), 2u);
  EXPECT_EQ(fake_cann_calls("aclrtMalloc"), 0u);
  EXPECT_EQ(fake_cann_calls(nullptr), 2u);
  EXPECT_EQ(fake_cann_is_fake(), 1);
  EXPECT_STREQ(aclrtGetSocName(), "Ascend950PR_9599");
}

TEST_F(FakeMemory, pins_whole_pages_of_others_once) {
  void* const pages = std::aligned_alloc(4096, 8192);
  constexpr std::uint32_t kPinned = 0x10000000;
  EXPECT_EQ(aclrtHostRegisterV2(pages, 8192, 0), kBadParameter);
  EXPECT_EQ(aclrtHostRegisterV2(static_cast<char*>(pages) + 1, 4096, kPinned), kBadParameter);
  EXPECT_EQ(aclrtHostRegisterV2(pages, 8192, kPinned), kOk);
  EXPECT_EQ(aclrtHostRegisterV2(static_cast<char*>(pages) + 4096, 4096, kPinned), kHostAlreadyRegistered);
  EXPECT_EQ(fake_cann_is_registered_host(static_cast<char*>(pages) + 8000, 192), 1);
  EXPECT_EQ(fake_cann_is_registered_host(static_cast<char*>(pages) + 8000, 193), 0);
  EXPECT_EQ(fake_cann_is_pinned_host(pages, 1), 0) << "which is what HIXL asks for";
  EXPECT_EQ(aclrtHostUnregister(static_cast<char*>(pages) + 4096), kHostNotRegistered);
  EXPECT_EQ(aclrtHostUnregister(pages), kOk);
  EXPECT_EQ(aclrtHostUnregister(pages), kHostNotRegistered);
  std::free(pages);
}

}  // namespace
}  // namespace fake_cann
