#include "hixl/request_table.h"

#include <algorithm>
#include <deque>

namespace fake_hixl {
namespace {

// Addresses that look like those of a heap, given out again as soon as they are free: the last one first.
class Addresses {
 public:
  void* take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return &made_.emplace_back();
    void* const address = free_.back();
    free_.pop_back();
    return address;
  }
  void give_back(void* address) {
    const std::lock_guard lock(mutex_);
    free_.push_back(address);
  }

 private:
  struct Node {
    std::byte bytes[64];
  };
  std::mutex mutex_;
  std::deque<Node> made_;  // guarded by mutex_, as below
  std::vector<void*> free_;
};

Addresses& addresses() {
  static Addresses& instance = *new Addresses;
  return instance;
}

}  // namespace

RequestTable::~RequestTable() {
  if (counts_) return;
  for (const auto& [handle, entry] : entries_) addresses().give_back(handle);
}

hixl::TransferReq RequestTable::add(std::shared_ptr<Request> request, std::shared_ptr<Link> link) {
  const std::lock_guard lock(mutex_);
  const std::uint64_t number = ++last_number_;
  void* const handle = counts_ ? reinterpret_cast<void*>(number) : addresses().take();
  entries_[handle] = {std::move(request), std::move(link), number, false};
  return handle;
}

std::optional<RequestTable::Entry> RequestTable::find(hixl::TransferReq handle) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(handle);
  return found == entries_.end() ? std::nullopt : std::optional(found->second);
}

void RequestTable::remove(hixl::TransferReq handle) {
  const std::lock_guard lock(mutex_);
  if (entries_.erase(handle) > 0 && !counts_) addresses().give_back(handle);
}

void RequestTable::drop(const Link& link, bool remembers) {
  const std::lock_guard lock(mutex_);
  for (auto entry = entries_.begin(); entry != entries_.end();) {
    const bool is_dropped = entry->second.link.get() == &link;
    if (is_dropped) entry->second.is_orphan = true;
    if (is_dropped && !remembers) {
      if (!counts_) addresses().give_back(entry->first);
      entry = entries_.erase(entry);
    } else {
      ++entry;
    }
  }
}

std::vector<hixl::TransferReq> RequestTable::handles() {
  const std::lock_guard lock(mutex_);
  std::map<std::uint64_t, hixl::TransferReq> ordered;
  for (const auto& [handle, entry] : entries_) ordered[entry.number] = handle;
  std::vector<hixl::TransferReq> handles;
  for (const auto& [number, handle] : ordered) handles.push_back(handle);
  return handles;
}

}  // namespace fake_hixl
