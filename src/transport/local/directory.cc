#include "transport/local/directory.h"

#include <map>

#include "base/fork.h"
#include "base/mutex.h"

namespace ray_hixl::transport::local {
namespace {

struct Directory {
  Mutex mutex;
  std::map<Incarnation, const memory::SlotTable*> engines RAY_HIXL_GUARDED_BY(mutex);  // also while a table is used
};

[[gnu::init_priority(101)]] ProcessWide<Directory> process_wide;
const bool kNewInChild = on_fork(nullptr, nullptr, [] { process_wide.begin_anew(); });  // the parent's engines are not in its process

Directory& directory() { return *process_wide; }

}  // namespace

Listing::Listing(const Incarnation& self, const memory::SlotTable& slots) : self_(self) {
  const MutexLock lock(directory().mutex);
  directory().engines[self] = &slots;
}

Listing::~Listing() {
  const MutexLock lock(directory().mutex);
  directory().engines.erase(self_);
}

bool is_listed(const Incarnation& engine) {
  const MutexLock lock(directory().mutex);
  return directory().engines.contains(engine);
}

Result<std::shared_ptr<const memory::SlotContent>> pin(const Incarnation& engine, const Handle& handle) {
  const MutexLock lock(directory().mutex);
  const auto it = directory().engines.find(engine);
  if (it == directory().engines.end()) return Status(Code::kPeerGone, "the other engine of this process was closed");
  return it->second->pin(handle);
}

Status check_live(const Incarnation& engine, const Handle& handle) { return pin(engine, handle).status(); }

}  // namespace ray_hixl::transport::local
