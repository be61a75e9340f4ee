#include "support/device_memory.h"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "transport/hixl/cann/cann.h"

namespace ray_hixl::test {
namespace {

constexpr int kHostToDevice = 1;
constexpr int kDeviceToHost = 2;

const transport::hixl::Cann& cann() {
  const auto& found = transport::hixl::Cann::get();
  if (found.is_ok()) return *found;
  std::fprintf(stderr, "no CANN for tests: %s\n", found.status().message().c_str());
  std::abort();
}

template <class Function>
Function* fake_function(const char* name) {
  return reinterpret_cast<Function*>(fake_hixl_symbol(name));
}

}  // namespace

bool is_test_cann_real() { return std::getenv("RAY_HIXL_TEST_CANN") != nullptr; }

void need_fake_cann() {
  if (!is_test_cann_real()) return;
  [] { GTEST_SKIP() << "it needs the FAKE CANN's switches or counters, and RAY_HIXL_TEST_CANN names real libraries"; }();
  throw testing::AssertionException(testing::TestPartResult(testing::TestPartResult::kSkip, nullptr, -1, ""));  // googletest knows already
}

void use_test_cann() {
  if (const char* real = std::getenv("RAY_HIXL_TEST_CANN"); real != nullptr) {
    ::setenv("RAY_HIXL_CANN_PATH", real, 1);
    return;
  }
  ::setenv("RAY_HIXL_CANN_PATH", FAKE_CANN_LIB ":" FAKE_CANN_LIB "/hixl", 0);
  ::setenv("RAY_HIXL_ALLOW_FAKE_CANN", "1", 1);
  ::setenv("FAKE_CANN_STRICT", "1", 0);
}

const transport::hixl::Acl& runtime_on(std::int32_t device) {
  const auto& acl = cann().acl;
  if (acl.set_device(device) != 0) std::abort();
  return acl;
}

std::vector<std::byte> load(const MemoryRange& range) {
  std::vector<std::byte> bytes(range.length);
  if (range.length == 0) return bytes;
  if (range.kind != MemoryKind::kDevice) {
    std::memcpy(bytes.data(), range.address, range.length);
  } else if (runtime_on(range.device).memcpy(bytes.data(), range.length, range.address, range.length, kDeviceToHost) != 0) {
    std::abort();
  }
  return bytes;
}

void store(const MemoryRange& range, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (range.kind != MemoryKind::kDevice) {
    std::memcpy(range.address, bytes.data(), bytes.size());
  } else if (runtime_on(range.device).memcpy(range.address, range.length, bytes.data(), bytes.size(), kHostToDevice) != 0) {
    std::abort();
  }
}

void* fake_hixl_symbol(const char* name) {
  need_fake_cann();
  void* const library = ::dlopen(cann().api.path.c_str(), RTLD_NOW | RTLD_NOLOAD);
  return library == nullptr ? nullptr : ::dlsym(library, name);
}

void set_fake_hixl(const char* name, const char* value) { fake_function<void(const char*, const char*)>("fake_hixl_set")(name, value); }

std::uint64_t fake_count(const std::string& name) {
  if (name == "live_blocks") {
    need_fake_cann();
    void* const runtime = ::dlopen(cann().acl.path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<std::size_t (*)()>(::dlsym(runtime, "fake_cann_live_blocks"))();
  }
  const auto counter = fake_function<std::uint64_t()>(("fake_hixl_" + name).c_str());
  return counter == nullptr ? fake_hixl_calls(name.c_str()) : counter();
}

std::uint64_t fake_hixl_calls(const char* name) { return fake_function<std::uint64_t(const char*)>("fake_hixl_calls")(name); }

}  // namespace ray_hixl::test
