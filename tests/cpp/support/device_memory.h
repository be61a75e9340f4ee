// Device memory for tests: the CANN that they use, and bytes that the CPU reaches only through the runtime's copies.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ray_hixl/engine.h"
#include "transport/hixl/cann/acl.h"

namespace ray_hixl::test {

// Has this process use the FAKE CANN libraries of the build, strictly; or the real ones in the folders that RAY_HIXL_TEST_CANN names.
// Before the first use of an NPU. Also for the processes that it starts.
void use_test_cann();
[[nodiscard]] bool is_test_cann_real();
// Ends the running test as skipped where a real library is used, which has no switches and counts nothing. Whatever asks the FAKE for
// something begins with it. The test's own thread.
void need_fake_cann();
// The runtime, with `device` as the calling thread's.
[[nodiscard]] const transport::hixl::Acl& runtime_on(std::int32_t device);

// The bytes of a range, wherever they lie, and writing them.
[[nodiscard]] std::vector<std::byte> load(const MemoryRange& range);
void store(const MemoryRange& range, std::span<const std::byte> bytes);

// A function of the FAKE HIXL library by its name.
[[nodiscard]] void* fake_hixl_symbol(const char* name);
// Sets a switch of the FAKE HIXL in this process (null: back to the environment's).
void set_fake_hixl(const char* name, const char* value);
[[nodiscard]] std::uint64_t fake_hixl_calls(const char* name);
// What the FAKE libraries count in this process: "ops", "bytes", "links", "inbound_links", "regions", "live_engines"; "live_blocks" of
// device memory; anything else: calls of the method of that name.
[[nodiscard]] std::uint64_t fake_count(const std::string& name);

// A switch of the FAKE HIXL for as long as it lives.
class FakeSwitch {
 public:
  FakeSwitch(std::string name, const std::string& value) : name_(std::move(name)) { set_fake_hixl(name_.c_str(), value.c_str()); }
  ~FakeSwitch() { set_fake_hixl(name_.c_str(), nullptr); }
  FakeSwitch(const FakeSwitch&) = delete;
  FakeSwitch& operator=(const FakeSwitch&) = delete;

 private:
  const std::string name_;
};

}  // namespace ray_hixl::test
