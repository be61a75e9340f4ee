#include "hixl/faults.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "hixl/switches.h"

namespace fake_hixl {
namespace {

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = std::min(text.find(separator, from), text.size());
    parts.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return parts;
}

bool is_meant(const std::string& which, std::uint64_t since, std::uint64_t number) {
  if (which == "*") return true;
  for (const std::string& one : split(which, ',')) {
    if (since + static_cast<std::uint64_t>(std::atoll(one.c_str())) == number) return true;
  }
  return false;
}

bool is_meant(const Switch& given, std::uint64_t number) { return is_meant(given.value, given.since, number); }

// The switches that concern transfers, read anew when one of them was set.
struct Plan {
  std::uint64_t version = 0;
  std::chrono::microseconds delay{0};
  std::optional<std::chrono::milliseconds> late;
  bool late_past_disconnect = false;
  Switch exhaust;
  Switch fail;
  Switch drop_link;
  Switch garble;
  Switch half;
  Switch never;
  Switch die;
};

Plan read_plan() {
  Plan plan;
  plan.version = switches_version();
  plan.delay = std::chrono::microseconds(number_switch("FAKE_HIXL_TRANSFER_DELAY_US", 0));
  if (const long late = number_switch("FAKE_HIXL_LATE_MS", -1); late >= 0) plan.late = std::chrono::milliseconds(late);
  plan.late_past_disconnect = number_switch("FAKE_HIXL_LATE_PAST_DISCONNECT", 0) != 0;
  plan.exhaust = read_switch("FAKE_HIXL_EXHAUST");
  plan.fail = read_switch("FAKE_HIXL_FAIL_AT");
  plan.drop_link = read_switch("FAKE_HIXL_DROP_LINK_AT");
  plan.garble = read_switch("FAKE_HIXL_GARBLE_AT");
  plan.half = read_switch("FAKE_HIXL_SHORT_AT");
  plan.never = read_switch("FAKE_HIXL_NEVER_AT");
  plan.die = read_switch("FAKE_HIXL_DIE_AT");
  return plan;
}

std::shared_ptr<const Plan> current_plan() {
  static std::mutex& mutex = *new std::mutex;
  static std::shared_ptr<const Plan>& plan = *new std::shared_ptr<const Plan>;
  const std::lock_guard lock(mutex);
  if (plan == nullptr || plan->version != switches_version()) plan = std::make_shared<const Plan>(read_plan());
  return plan;
}

void apply_failure(const Switch& given, std::uint64_t number, Fate& fate) {
  const std::vector<std::string> parts = split(given.value, ':');
  if (parts.size() < 2 || !is_meant(parts[0], given.since, number)) return;
  const Status status = parts.size() > 2 ? static_cast<Status>(std::atol(parts[2].c_str())) : hixl::kFailed;
  if (parts[1] == "call") {
    fate.call = status;
  } else {
    fate.fails = true;
    if (parts[1] == "error") fate.poll = status;
  }
}

// "<ms>" for every peer, "<ip:port>=<ms>" for one.
std::chrono::milliseconds delay_of(const char* name, const std::string& remote) {
  long delay = 0;
  for (const std::string& item : split(text_switch(name, ""), ',')) {
    const std::size_t equals = item.find('=');
    if (equals == std::string::npos) {
      delay = std::atol(item.c_str());
    } else if (item.substr(0, equals) == remote) {
      return std::chrono::milliseconds(std::atol(item.c_str() + equals + 1));
    }
  }
  return std::chrono::milliseconds(delay);
}

}  // namespace

Fate next_fate() {
  const std::uint64_t number = next_transfer();
  const std::shared_ptr<const Plan> plan = current_plan();
  Fate fate;
  fate.delay = plan->delay;
  fate.late = plan->late;
  fate.late_past_disconnect = plan->late_past_disconnect;
  if (number - plan->exhaust.since <= static_cast<std::uint64_t>(std::atoll(plan->exhaust.value.c_str()))) {
    fate.call = hixl::kResourceExhausted;
  }
  apply_failure(plan->fail, number, fate);
  fate.drops_link = is_meant(plan->drop_link, number);
  fate.garbles = is_meant(plan->garble, number);
  fate.is_short = is_meant(plan->half, number);
  fate.never_ends = is_meant(plan->never, number);
  fate.dies = is_meant(plan->die, number);
  return fate;
}

bool next_connect_is_refused() {
  static std::mutex& mutex = *new std::mutex;
  static std::uint64_t version = 0;  // guarded by mutex, as below; of the switches
  static long left = 0;
  const std::lock_guard lock(mutex);
  if (std::exchange(version, switches_version()) != switches_version()) left = number_switch("FAKE_HIXL_REFUSE_CONNECT", 0);
  return left > 0 && left-- > 0;
}

std::chrono::milliseconds connect_delay(const std::string& remote) { return delay_of("FAKE_HIXL_CONNECT_DELAY_MS", remote); }
std::chrono::milliseconds disconnect_delay(const std::string& remote) { return delay_of("FAKE_HIXL_DISCONNECT_DELAY_MS", remote); }

std::chrono::milliseconds abort_hold() { return std::chrono::milliseconds(number_switch("FAKE_HIXL_ABORT_HOLD_MS", 0)); }
std::chrono::milliseconds abort_gap() { return std::chrono::milliseconds(number_switch("FAKE_HIXL_ABORT_GAP_MS", 0)); }

std::chrono::milliseconds stage_delay() { return std::chrono::milliseconds(number_switch("FAKE_HIXL_STAGE_DELAY_MS", 0)); }

std::chrono::milliseconds retry_window() { return std::chrono::milliseconds(number_switch("FAKE_HIXL_RETRY_MS", 100)); }

}  // namespace fake_hixl
