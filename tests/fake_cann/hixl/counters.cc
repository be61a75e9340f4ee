#include "hixl/counters.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "hixl/fake_hixl.h"

namespace fake_hixl {
namespace {

struct Counters {
  std::mutex mutex;
  std::map<std::string, std::uint64_t> calls;  // guarded by mutex
  std::atomic<std::uint64_t> ops{0};
  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> busy_ns{0};
  std::atomic<std::uint64_t> launches{0};
  std::atomic<std::uint64_t> early_completions{0};
  std::atomic<std::uint64_t> stray_records{0};
  std::atomic<std::uint64_t> aborts{0};
  std::atomic<std::uint64_t> aborts_of_others{0};
};

Counters& counters() {
  static Counters& instance = *new Counters;
  return instance;
}

}  // namespace

void count_call(const char* name) {
  const std::lock_guard lock(counters().mutex);
  ++counters().calls[name];
}

void count_op() { ++counters().ops; }

void count_bytes(std::size_t bytes, std::chrono::nanoseconds busy) {
  counters().bytes += bytes;
  counters().busy_ns += static_cast<std::uint64_t>(busy.count());
}

void count_launch() { ++counters().launches; }
void count_early_completion() { ++counters().early_completions; }
void count_stray_record() { ++counters().stray_records; }

void count_abort(bool is_anothers) {
  ++counters().aborts;
  if (is_anothers) ++counters().aborts_of_others;
}

}  // namespace fake_hixl

using namespace fake_hixl;

extern "C" {

std::uint64_t fake_hixl_calls(const char* name) {
  const std::lock_guard lock(counters().mutex);
  if (name != nullptr) {
    const auto found = counters().calls.find(name);
    return found == counters().calls.end() ? 0 : found->second;
  }
  std::uint64_t all = 0;
  for (const auto& [each, count] : counters().calls) all += count;
  return all;
}

std::uint64_t fake_hixl_ops(void) { return counters().ops; }
std::uint64_t fake_hixl_bytes(void) { return counters().bytes; }
std::uint64_t fake_hixl_busy_ns(void) { return counters().busy_ns; }
std::uint64_t fake_hixl_launches(void) { return counters().launches; }
std::uint64_t fake_hixl_early_completions(void) { return counters().early_completions; }
std::uint64_t fake_hixl_stray_records(void) { return counters().stray_records; }
std::uint64_t fake_hixl_aborts(void) { return counters().aborts; }
std::uint64_t fake_hixl_aborts_of_others(void) { return counters().aborts_of_others; }

void fake_hixl_reset_counters(void) {
  const std::lock_guard lock(counters().mutex);
  counters().calls.clear();
  counters().ops = counters().bytes = counters().busy_ns = 0;
  counters().launches = counters().early_completions = counters().stray_records = counters().aborts = counters().aborts_of_others = 0;
}

}  // extern "C"
