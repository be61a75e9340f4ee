#include "transport/hixl/unlinked.h"

#include "device/name.h"

namespace ray_hixl::transport::hixl {

std::string names_of(const Ends& ends) {
  const auto name = [](bool host, std::int32_t npu) { return (host ? "host memory pinned by " : "") + device::npu_name(npu); };
  return name(ends.host_here, ends.local) + " here and " + name(ends.host_there, ends.remote) + " there";
}

bool Unlinked::add(const Ends& ends, const Status& why, Deadline until) {
  if (!find(ends).is_ok()) return false;
  const MutexLock lock(mutex_);
  return pairs_.insert_or_assign(ends, Entry{until, why}).second;
}

bool Unlinked::remove(const Ends& ends) {
  const MutexLock lock(mutex_);
  return pairs_.erase(ends) > 0;
}

Status Unlinked::find(const Ends& ends) const {
  const MutexLock lock(mutex_);
  const auto found = pairs_.find(ends);
  return found == pairs_.end() || found->second.until.passed() ? Status::ok() : found->second.why;
}

Status Unlinked::any(bool of_hosts) const {
  const MutexLock lock(mutex_);
  for (const auto& [ends, entry] : pairs_) {
    if (!entry.until.passed() && (of_hosts || !ends.has_host())) return entry.why.with_context(names_of(ends));
  }
  return Status::ok();
}

}  // namespace ray_hixl::transport::hixl
