#include "support/scripted_hixl.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "support/device_memory.h"
#include "transport/hixl/cann/cann.h"

namespace ray_hixl::test {

using namespace transport::hixl;

namespace {

ScriptedHixl* script = nullptr;

}  // namespace

struct ScriptedEntries {
  static HixlCode connect(void*, const Text& peer, std::int32_t) { return script->call("connect", std::string("connect ") + peer.c_str()); }
  static HixlCode disconnect(void*, const Text& peer, std::int32_t) {
    const HixlCode code = script->call("disconnect", std::string("disconnect ") + peer.c_str());
    {
      const std::lock_guard lock(script->mutex_);
      std::erase_if(script->requests_, [&](const auto& each) { return each.second.peer == peer.c_str(); });
    }
    (void)script->call("disconnected", "");
    return code;
  }
  static HixlCode read(void*, const Text& peer, std::int32_t, const std::vector<OpDesc>& ops, const TransferArgs& args, void*& request) {
    const HixlCode code = script->call("read", std::string("read ") + peer.c_str() + " " + std::to_string(ops.size()));
    if (code == kParamInvalid || code == kResourceExhausted) return code;
    const std::lock_guard lock(script->mutex_);
    const auto id = reinterpret_cast<std::uint64_t>(args.user_data);
    void* const handle = script->free_handle();
    if (code == kHixlOk) request = handle;
    script->requests_[id] = {id, handle, peer.c_str(), ops, std::nullopt};
    return code;
  }
  static HixlCode poll(void*, void* const& request, std::int32_t& status) {
    (void)script->call("poll", "");
    const std::lock_guard lock(script->mutex_);
    const auto found = script->find(request);
    status = 3;  // FAILED
    if (found == script->requests_.end()) return kParamInvalid;
    if (!found->second.end) {
      status = kWaiting;
      return kHixlOk;
    }
    const auto [code, end] = *found->second.end;
    status = end;
    script->requests_.erase(found);
    return code;
  }
  static HixlCode poll_all(void*, const PollArgs&, std::vector<PollResult>& results) {
    if (const HixlCode code = script->call("poll_all", ""); code != kHixlOk) return code;
    const std::lock_guard lock(script->mutex_);
    for (const auto& [id, request] : script->requests_) {
      if (request.end) results.push_back({request.handle, reinterpret_cast<void*>(id), request.end->second, {}});
    }
    for (const PollResult& result : results) script->requests_.erase(script->find(result.request));
    return kHixlOk;
  }
  static HixlCode register_memory(void*, const MemDesc& memory, std::int32_t, void*& handle) {
    handle = reinterpret_cast<void*>(memory.address);
    return script->call("register", "register");
  }
  static HixlCode deregister_memory(void*, void*) { return script->call("deregister", "deregister"); }
};

ScriptedHixl::ScriptedHixl(bool batches) {
  use_test_cann();
  if (!Cann::get().is_ok() || script != nullptr) std::abort();
  api_.construct = [](void*) {};
  api_.destroy = [](void*) {};
  api_.initialize = [](void*, const Text&, const HixlOptions&) { return script->call("initialize", "initialize"); };
  api_.finalize = [](void*) { (void)script->call("finalize", "finalize"); };
  api_.register_memory = ScriptedEntries::register_memory;
  api_.deregister_memory = ScriptedEntries::deregister_memory;
  api_.connect = ScriptedEntries::connect;
  api_.disconnect = ScriptedEntries::disconnect;
  api_.transfer_async = ScriptedEntries::read;
  api_.poll = ScriptedEntries::poll;
  if (batches) api_.poll_all = ScriptedEntries::poll_all;
  acl_.get_recent_error = [] { return "the script says so"; };
  script = this;
}

ScriptedHixl::~ScriptedHixl() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return inside_ == 0; });
  script = nullptr;
}

std::unique_ptr<Hixl> ScriptedHixl::make_hixl() const { return std::make_unique<Hixl>(api_, acl_); }

HixlCode ScriptedHixl::call(const std::string& entry, const std::string& logged) {
  std::unique_lock lock(mutex_);
  ++counts_[entry];
  if (!logged.empty()) calls_.push_back(logged);
  ++inside_;
  changed_.wait(lock, [&] { return ending_ || !(held_.contains(entry) || held_.contains(logged)); });
  --inside_;
  changed_.notify_all();
  std::deque<Code>& answers = answers_[entry];
  if (answers.empty()) return kHixlOk;
  const Code code = answers.front();
  answers.pop_front();
  return code;
}

void ScriptedHixl::answer(const std::string& entry, std::vector<Code> codes) {
  const std::lock_guard lock(mutex_);
  answers_[entry].assign(codes.begin(), codes.end());
}

void ScriptedHixl::hold(const std::string& entry) {
  const std::lock_guard lock(mutex_);
  held_.insert(entry);
}

void ScriptedHixl::let_go(const std::string& entry) {
  const std::lock_guard lock(mutex_);
  held_.erase(entry);
  changed_.notify_all();
}

// The lowest that no request has. With the lock held, as below.
void* ScriptedHixl::free_handle() const {
  std::uintptr_t handle = 64;
  while (std::ranges::any_of(requests_, [&](const auto& each) { return each.second.handle == reinterpret_cast<void*>(handle); }))
    handle += 64;
  return reinterpret_cast<void*>(handle);
}

std::map<std::uint64_t, ScriptedHixl::Request>::iterator ScriptedHixl::find(void* handle) {
  return std::ranges::find_if(requests_, [&](const auto& each) { return each.second.handle == handle; });
}

std::vector<std::string> ScriptedHixl::calls() {
  const std::lock_guard lock(mutex_);
  return calls_;
}

std::vector<std::string> ScriptedHixl::take_calls() {
  const std::lock_guard lock(mutex_);
  return std::exchange(calls_, {});
}

std::uint64_t ScriptedHixl::count(const std::string& entry) {
  const std::lock_guard lock(mutex_);
  return counts_[entry];
}

std::vector<ScriptedHixl::Request> ScriptedHixl::requests() {
  const std::lock_guard lock(mutex_);
  std::vector<Request> all;
  for (const auto& [id, request] : requests_) all.push_back(request);
  return all;
}

void ScriptedHixl::end(std::uint64_t id, std::int32_t status, Code code) {
  const std::lock_guard lock(mutex_);
  requests_.at(id).end = std::pair(code, status);
}

void ScriptedHixl::end_seen(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  requests_.erase(id);
}

void ScriptedHixl::complete(std::size_t most) {
  const std::lock_guard lock(mutex_);
  for (auto& [id, request] : requests_) {
    if (request.end) continue;
    if (most-- == 0) return;
    request.end = std::pair(kHixlOk, kCompleted);
  }
}

}  // namespace ray_hixl::test
