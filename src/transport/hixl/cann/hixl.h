// Hixl: one object of the library's class, as calls that report what happened. Its threads have called aclrtSetDevice before.
//
// Any number of threads may call the methods between initialize() and finalize(); calls for one peer wait for each other inside the
// library. initialize() and finalize() run alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "transport/hixl/cann/acl.h"
#include "transport/hixl/cann/api.h"

namespace ray_hixl::transport::hixl {

// The code of a call, and what the runtime says of it if it failed.
struct Outcome {
  HixlCode code = kHixlOk;
  std::string said;  // ": <text>", or empty
  [[nodiscard]] bool is_ok() const { return code == kHixlOk; }
  [[nodiscard]] std::string text() const { return describe(code) + said; }
};

class Hixl {
 public:
  // Both outlive it.
  Hixl(const Api& api, const Acl& acl) : api_(api), acl_(acl) { api_.construct(&object_); }
  ~Hixl() { api_.destroy(&object_); }  // finalizes
  Hixl(const Hixl&) = delete;
  Hixl& operator=(const Hixl&) = delete;

  // Once: an object whose initialize() failed is thrown away.
  [[nodiscard]] Outcome initialize(const std::string& name, const HixlOptions& options) {
    return outcome(api_.initialize(&object_, Text(name), options));
  }
  void finalize() { api_.finalize(&object_); }

  [[nodiscard]] Outcome register_device_memory(std::uintptr_t address, std::size_t length, void*& handle) {
    return outcome(api_.register_memory(&object_, MemDesc{address, length, {}}, kMemDevice, handle));
  }
  // On A2 and A3 of aclrtMallocHost only.
  [[nodiscard]] Outcome register_host_memory(std::uintptr_t address, std::size_t length, void*& handle) {
    return outcome(api_.register_memory(&object_, MemDesc{address, length, {}}, kMemHost, handle));
  }
  [[nodiscard]] Outcome deregister_memory(void* handle) { return outcome(api_.deregister_memory(&object_, handle)); }
  [[nodiscard]] Outcome connect(const Text& peer, std::int32_t timeout_ms) { return outcome(api_.connect(&object_, peer, timeout_ms)); }
  [[nodiscard]] Outcome disconnect(const Text& peer, std::int32_t timeout_ms) {
    return outcome(api_.disconnect(&object_, peer, timeout_ms));
  }
  // `id` comes back with poll_all().
  [[nodiscard]] Outcome read_async(const Text& peer, const std::vector<OpDesc>& ops, std::uint64_t id, void*& request) {
    return outcome(api_.transfer_async(&object_, peer, kOpRead, ops, TransferArgs{reinterpret_cast<void*>(id), {}}, request));
  }
  // A request is gone after any other answer than (ok, kWaiting).
  [[nodiscard]] Outcome poll(void* request, std::int32_t& status) { return outcome(api_.poll(&object_, request, status)); }
  // Every request that is not waiting any more. REQUIRES: can_poll_all().
  [[nodiscard]] Outcome poll_all(std::vector<PollResult>& results) {
    PollArgs args;
    args.skip_waiting = true;
    return outcome(api_.poll_all(&object_, args, results));
  }
  [[nodiscard]] bool can_poll_all() const { return api_.poll_all != nullptr; }

 private:
  [[nodiscard]] Outcome outcome(HixlCode code) const { return {code, code == kHixlOk ? std::string() : acl_.recent_error()}; }

  const Api& api_;
  const Acl& acl_;
  void* object_ = nullptr;  // the library's object: one pointer
};

}  // namespace ray_hixl::transport::hixl
