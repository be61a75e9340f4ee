// RawHixl: one engine of HIXL on one device, as the product's binding gives it, with memory of its own. For tests of the contract.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ray_hixl/options.h"
#include "support/device_memory.h"
#include "support/pattern.h"
#include "support/regions.h"
#include "transport/hixl/cann/cann.h"
#include "transport/hixl/cann/hixl.h"
#include "transport/hixl/cann/start.h"

namespace ray_hixl::test {

// The devices that these tests use: two numbers in RAY_HIXL_TEST_DEVICES; 0 and 1 without. The host's address is that of the engine's
// options (RAY_HIXL_HOST).
[[nodiscard]] inline std::pair<std::int32_t, std::int32_t> test_devices() {
  const char* const text = std::getenv("RAY_HIXL_TEST_DEVICES");
  if (text == nullptr) return {0, 1};
  const std::string both = text;
  return {std::stoi(both), std::stoi(both.substr(both.find(',') + 1))};
}

// Used by one thread, which has the device from the constructor on.
class RawHixl {
 public:
  explicit RawHixl(std::int32_t device) : device_(device) {
    (void)runtime_on(device);
    auto started = transport::hixl::start(*transport::hixl::Cann::get(), options_from_environment().value());
    if (!started.is_ok()) {
      failure_ = started.status().to_string();
      return;
    }
    hixl_ = std::move(started->hixl);
    name_ = started->name;
  }

  [[nodiscard]] const std::string& failure() const { return failure_; }  // empty if it started
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] transport::hixl::Hixl& operator*() { return *hixl_; }
  [[nodiscard]] transport::hixl::Hixl* operator->() { return hixl_.get(); }
  // Device memory of pattern bytes that lives as long as this.
  [[nodiscard]] MemoryRange allocate(std::uint64_t bytes, std::uint64_t seed) {
    memory_.push_back(device_memory(bytes, device_));
    fill(memory_.back().range, seed);
    return memory_.back().range;
  }

 private:
  const std::int32_t device_;
  std::string failure_;
  std::string name_;
  std::vector<DeviceMemory> memory_;
  std::unique_ptr<transport::hixl::Hixl> hixl_;  // goes before the memory
};

}  // namespace ray_hixl::test
