#include "hixl/switches.h"

#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>

#include "hixl/fake_hixl.h"

namespace fake_hixl {
namespace {

// Never destroyed, like all state of the fake: threads run while the process exits.
struct Switches {
  std::mutex mutex;
  std::map<std::string, Switch> known;  // guarded by mutex
  std::atomic<std::uint64_t> transfers{0};
  std::atomic<std::uint64_t> version{1};
};

Switches& switches() {
  static Switches& instance = *new Switches;
  return instance;
}

}  // namespace

Switch read_switch(const char* name) {
  const std::lock_guard lock(switches().mutex);
  const auto found = switches().known.find(name);
  if (found != switches().known.end()) return found->second;
  const char* text = std::getenv(name);
  return switches().known[name] = {text == nullptr ? "" : text, 0};
}

std::string text_switch(const char* name, const char* otherwise) {
  const std::string value = read_switch(name).value;
  return value.empty() ? otherwise : value;
}

long number_switch(const char* name, long otherwise) {
  const std::string value = read_switch(name).value;
  return value.empty() ? otherwise : std::atol(value.c_str());
}

std::uint64_t switches_version() { return switches().version; }

std::uint64_t next_transfer() { return ++switches().transfers; }

}  // namespace fake_hixl

using namespace fake_hixl;

extern "C" {

void fake_hixl_set(const char* name, const char* value) {
  const std::lock_guard lock(switches().mutex);
  if (value == nullptr) {
    switches().known.erase(name);
  } else {
    switches().known[name] = {value, switches().transfers};
  }
  ++switches().version;
}

void fake_hixl_reset_switches(void) {
  const std::lock_guard lock(switches().mutex);
  switches().known.clear();
  ++switches().version;
}

}  // extern "C"
