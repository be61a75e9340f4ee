// Initialize answers one status for much that can be wrong with a machine: what it was stands only in the text.
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <utility>

#include "hixl/faults.h"
#include "hixl/switches.h"

namespace fake_hixl {
namespace {

constexpr std::pair<const char*, const char*> kCauses[] = {
    {"kernel", "the kernels for the device's CPU cannot be loaded: is ASCEND_HOME_PATH right, and the package whole?"},
    {"endpoint", "the device's network card makes no endpoint: no queue or completion queue is left"},
    {"stream", "the device makes no stream or notify for a slot: other processes use them up"},
    {"device_ip", "no device ip: neither hccn.conf nor hccn_tool has one"},
};

struct Failures {
  std::mutex mutex;
  std::uint64_t version = 0;  // guarded by mutex, as below; of the switches
  long count = 0;             // since they were set
};

}  // namespace

std::string next_initialize_failure() {
  const std::string value = text_switch("FAKE_HIXL_FAIL_INITIALIZE", "");
  if (value.empty()) return "";
  static Failures& failures = *new Failures;
  const std::lock_guard lock(failures.mutex);
  if (std::exchange(failures.version, switches_version()) != switches_version()) failures.count = 0;
  const std::size_t colon = value.find(':');
  if (colon != std::string::npos && failures.count >= std::atol(value.c_str() + colon + 1)) return "";
  ++failures.count;
  const std::string cause = value.substr(0, colon);
  for (const auto& [name, text] : kCauses) {
    if (cause == name) return text;
  }
  return "a fault was asked for (" + cause + ")";
}

}  // namespace fake_hixl
