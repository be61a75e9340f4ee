#include "runtime/calls.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>

#include "runtime/fake_cann.h"

namespace fake_cann {
namespace {

thread_local std::string recent_error;
thread_local std::string handed_out_error;  // aclGetRecentErrMsg's pointer lives until the next call

struct Calls {
  std::mutex mutex;
  std::map<std::string, std::uint64_t> counts;  // guarded by mutex
  std::set<std::string> hidden;                 // constant
  int trace_fd = -1;                            // constant
};

// Never destroyed, like all state of the fake: threads run while the process exits.
Calls& calls() {
  static Calls& instance = *[] {
    auto* made = new Calls;
    const std::string names = text_switch("FAKE_CANN_HIDE", "");
    for (std::size_t from = 0; from < names.size();) {
      const std::size_t comma = std::min(names.find(',', from), names.size());
      made->hidden.insert(names.substr(from, comma - from));
      from = comma + 1;
    }
    const std::string file = text_switch("FAKE_CANN_TRACE", "");
    if (!file.empty()) made->trace_fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    return made;
  }();
  return instance;
}

struct Refusal {
  std::mutex mutex;
  std::string why;  // guarded by mutex; empty until an operator was refused
};

Refusal& refusal() {
  static Refusal& instance = *new Refusal;
  return instance;
}

bool is_strict() {
  static const bool strict = number_switch("FAKE_CANN_STRICT", 0) != 0;
  return strict;
}

std::atomic<fake_cann_memory_listener> memory_listener{nullptr};

[[noreturn]] void die(int code, const std::string& why) {
  std::fprintf(stderr, "FAKE CANN: %s\n", why.c_str());
  std::fflush(stderr);
  ::_exit(code);
}

}  // namespace

bool enter(const char* name) {
  Calls& state = calls();
  trace(name);
  const std::lock_guard lock(state.mutex);
  ++state.counts[name];
  return !state.hidden.contains(name);
}

void trace(const std::string& line) {
  if (calls().trace_fd < 0) return;
  const std::string text = line + "\n";
  [[maybe_unused]] const ssize_t written = ::write(calls().trace_fd, text.data(), text.size());
}

int fail(int code, const std::string& why) {
  recent_error = "FAKE CANN: " + why;
  return code;
}

long number_switch(const char* name, long otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::atol(text) : otherwise;
}

std::string text_switch(const char* name, const char* otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr && *text != '\0' ? text : otherwise;
}

int refuse_operator(const std::string& name, const std::string& operands) {
  const std::string why = "no kernel for operator " + name + " (the fake moves bytes, it does not compute)" + operands;
  if (text_switch("FAKE_CANN_REFUSE", "error") == "abort") die(86, why);
  const std::lock_guard lock(refusal().mutex);
  refusal().why = why;
  return fail(kOperatorFailed, why);
}

int sticky_error() {
  static const bool sticky = text_switch("FAKE_CANN_REFUSE", "error") == "sticky";
  if (!sticky) return kOk;
  const std::lock_guard lock(refusal().mutex);
  return refusal().why.empty() ? static_cast<int>(kOk)
                               : fail(kOperatorFailed, "[sticky] an earlier operator was refused: " + refusal().why);
}

void memory_goes(int device, std::size_t offset, std::size_t size) {
  if (const auto listener = memory_listener.load()) listener(device, offset, size);
}

void check_not_forbidden(const char* name, void* caller) {
  if (!is_strict()) return;
  Dl_info info{};
  const bool known = ::dladdr(caller, &info) != 0 && info.dli_fname != nullptr;
  if (known && std::strstr(info.dli_fname, "torch_npu") != nullptr) return;
  die(87, std::string(name) + " was called by " + (known ? info.dli_fname : "unknown code") + ", which must never do so in such a state");
}

}  // namespace fake_cann

using namespace fake_cann;

extern "C" {

int fake_cann_is_fake(void) { return 1; }

void fake_cann_set_error(const char* message) { recent_error = message; }

void fake_cann_forbid(const char* what) {
  if (is_strict()) die(87, what);
}

void fake_cann_on_memory_gone(fake_cann_memory_listener listener) { memory_listener = listener; }

std::uint64_t fake_cann_calls(const char* name) {
  const std::lock_guard lock(calls().mutex);
  if (name != nullptr) {
    const auto found = calls().counts.find(name);
    return found == calls().counts.end() ? 0 : found->second;
  }
  std::uint64_t all = 0;
  for (const auto& [each, count] : calls().counts) all += count;
  return all;
}

void fake_cann_reset_calls(void) {
  const std::lock_guard lock(calls().mutex);
  calls().counts.clear();
}

// Fetches and clears; null when there is none.
const char* aclGetRecentErrMsg(void) {
  (void)enter(__func__);
  if (recent_error.empty()) return nullptr;
  handed_out_error = std::move(recent_error);
  recent_error.clear();
  return handed_out_error.c_str();
}

}  // extern "C"
