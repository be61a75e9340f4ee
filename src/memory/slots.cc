#include "memory/slots.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <deque>
#include <string>
#include <utility>

#include "base/mutex.h"
#include "base/random.h"
#include "base/thread.h"

namespace ray_hixl::memory {
namespace {

constexpr std::size_t kEnded = SlotTable::kCapacity;  // the index of the word that is 1 when the engine has ended
constexpr std::size_t kTableBytes = (kEnded + 1) * sizeof(std::uint64_t);
constexpr int kTableSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "generations are read by other processes");

bool is_live(std::uint64_t generation) { return generation % 2 == 1; }

// The load is ordered after the caller's reads of the memory that the generation stands for: an acquire load alone only orders what
// follows.
bool same_generation(const std::uint64_t* stored, std::uint64_t wanted) {
  std::atomic_thread_fence(std::memory_order_acquire);
  return __atomic_load_n(stored, __ATOMIC_ACQUIRE) == wanted;
}

Status refused(const Handle& handle, const char* why) {
  return Status(Code::kInvalidRegion, "slot " + std::to_string(handle.slot) + " of this engine: " + why +
                                          ". Ask its owner for a new descriptor of memory that is still registered or published");
}

}  // namespace

struct SlotTable::Impl {
  struct Entry {
    std::uint64_t key = 0;
    std::shared_ptr<const SlotContent> content;  // null while free
  };

  Impl(Reaper& the_reaper, std::uint32_t the_limit) : reaper(the_reaper), limit(the_limit) {}
  ~Impl() {
    if (generations != nullptr) ::munmap(generations, kTableBytes);
  }

  Reaper& reaper;
  const std::uint32_t limit;
  const ProcessGuard process;  // the generations are shared with a forked child, which must not touch them
  Fd fd;
  std::uint64_t* generations = nullptr;  // kCapacity of them, and kEnded
  mutable Mutex mutex;
  std::deque<Entry> entries RAY_HIXL_GUARDED_BY(mutex);              // as many as slots were ever used
  std::vector<std::uint32_t> free_slots RAY_HIXL_GUARDED_BY(mutex);  // the last one is used next
  bool ended RAY_HIXL_GUARDED_BY(mutex) = false;

  [[nodiscard]] bool live(const Handle& handle) const {
    return handle.slot < kCapacity && is_live(handle.generation) && same_generation(generations + handle.slot, handle.generation);
  }
  [[nodiscard]] Result<std::uint32_t> take_slot() RAY_HIXL_REQUIRES(mutex);
  std::uint64_t advance(std::uint32_t slot) RAY_HIXL_REQUIRES(mutex);
  [[nodiscard]] std::shared_ptr<const SlotContent> clear(std::uint32_t slot) RAY_HIXL_REQUIRES(mutex);
};

Result<std::uint32_t> SlotTable::Impl::take_slot() {
  if (!free_slots.empty()) {
    const std::uint32_t slot = free_slots.back();
    free_slots.pop_back();
    return slot;
  }
  if (entries.size() == limit) {
    return Status(Code::kOutOfMemory, "all " + std::to_string(limit) + " slots of this engine are in use: free objects or close regions");
  }
  entries.emplace_back();
  return static_cast<std::uint32_t>(entries.size() - 1);
}

// The next generation, seen by everybody before anything that this thread stores later: the memory may be reused for other bytes then.
std::uint64_t SlotTable::Impl::advance(std::uint32_t slot) {
  const std::atomic_ref<std::uint64_t> generation(generations[slot]);
  const std::uint64_t next = generation.load(std::memory_order_relaxed) + 1;
  generation.store(next, std::memory_order_release);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return next;
}

// Retires a live slot. The content is for the caller to drop without the lock.
std::shared_ptr<const SlotContent> SlotTable::Impl::clear(std::uint32_t slot) {
  advance(slot);
  free_slots.push_back(slot);
  return std::move(entries[slot].content);
}

std::size_t range_at(std::span<const std::uint64_t> starts, std::uint64_t offset) {
  return static_cast<std::size_t>(std::ranges::upper_bound(starts, offset) - starts.begin()) - 1;
}

Status SlotContent::measure() {
  length = 0;
  has_device_memory = false;
  starts.clear();
  starts.reserve(ranges.size());
  for (const MemoryRange& range : ranges) {
    starts.push_back(length);
    has_device_memory = has_device_memory || range.kind == MemoryKind::kDevice;
    if (__builtin_add_overflow(length, range.length, &length)) {
      return Status(Code::kInvalidArgument, "the ranges are longer than 2^64 bytes together");
    }
  }
  return Status::ok();
}

Result<std::unique_ptr<SlotTable>> SlotTable::create(Reaper& reaper, std::uint32_t limit) {
  auto impl = std::make_unique<Impl>(reaper, limit);
  impl->fd = Fd::make([] { return ::memfd_create("ray-hixl-generations", MFD_CLOEXEC | MFD_ALLOW_SEALING); });
  // Without memfds, by kernel or sandbox, the table is this process's alone: peers ask instead of looking.
  const bool is_shared = static_cast<bool>(impl->fd);
  if (!is_shared && errno != ENOSYS && errno != EPERM && errno != EACCES) {
    return errno_status(Code::kOutOfMemory, "cannot create the generation table");
  }
  if (is_shared && ::ftruncate(impl->fd.get(), static_cast<off_t>(kTableBytes)) != 0) {
    return errno_status(Code::kOutOfMemory, "cannot size the generation table");
  }
  const int flags = is_shared ? MAP_SHARED : MAP_SHARED | MAP_ANONYMOUS;
  void* base = ::mmap(nullptr, kTableBytes, PROT_READ | PROT_WRITE, flags, impl->fd.get(), 0);
  if (base == MAP_FAILED) return errno_status(Code::kOutOfMemory, "cannot map the generation table");
  impl->generations = static_cast<std::uint64_t*>(base);
  if (is_shared && ::fcntl(impl->fd.get(), F_ADD_SEALS, kTableSeals | F_SEAL_SEAL) != 0) {
    return errno_status(Code::kNotAvailable, "cannot seal the generation table (Linux 5.1 or newer is needed)");
  }
  return std::unique_ptr<SlotTable>(new SlotTable(std::move(impl)));
}

SlotTable::SlotTable(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

SlotTable::~SlotTable() { end(); }

Result<Handle> SlotTable::publish(SlotContent content) {
  content.owner = impl_->reaper.adopt(std::move(content.owner));  // first, so that a refused one ends on the reaper too
  RAY_HIXL_RETURN_IF_ERROR(impl_->process.check());
  RAY_HIXL_RETURN_IF_ERROR(content.measure());
  auto shared = std::make_shared<const SlotContent>(std::move(content));
  Handle handle;
  handle.key = random_u64();

  const MutexLock lock(impl_->mutex);
  if (impl_->ended) return Status(Code::kClosed, "the engine is closed");
  const Result<std::uint32_t> slot = impl_->take_slot();
  if (!slot.is_ok()) return slot.status();
  handle.slot = *slot;
  impl_->entries[*slot] = {handle.key, std::move(shared)};
  handle.generation = impl_->advance(*slot);
  return handle;
}

bool SlotTable::retire(const Handle& handle) {
  if (impl_->process.in_child()) return false;
  std::shared_ptr<const SlotContent> content;  // dropped after the lock
  const MutexLock lock(impl_->mutex);
  if (!impl_->live(handle) || impl_->entries[handle.slot].key != handle.key) return false;
  content = impl_->clear(handle.slot);
  return true;
}

Result<std::shared_ptr<const SlotContent>> SlotTable::pin(const Handle& handle) const {
  const MutexLock lock(impl_->mutex);
  if (handle.slot >= impl_->entries.size()) return refused(handle, "there is no such slot");
  if (!impl_->live(handle)) return refused(handle, "what it held was freed or closed");
  const Impl::Entry& entry = impl_->entries[handle.slot];
  if (entry.key != handle.key) return refused(handle, "the key is wrong");
  return entry.content;
}

bool SlotTable::live(const Handle& handle) const { return impl_->live(handle); }

std::uint32_t SlotTable::live_slots() const {
  const MutexLock lock(impl_->mutex);
  return static_cast<std::uint32_t>(impl_->entries.size() - impl_->free_slots.size());
}

void SlotTable::end() {
  if (impl_->process.in_child()) return;
  std::vector<std::shared_ptr<const SlotContent>> contents;  // dropped after the lock
  const MutexLock lock(impl_->mutex);
  impl_->ended = true;
  std::atomic_ref(impl_->generations[kEnded]).store(1, std::memory_order_release);
  for (std::uint32_t slot = 0; slot < impl_->entries.size(); ++slot) {
    if (impl_->entries[slot].content) contents.push_back(impl_->clear(slot));
  }
}

const Fd& SlotTable::generations() const { return impl_->fd; }

Result<std::shared_ptr<const GenerationView>> GenerationView::map(const Fd& fd) {
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  struct stat info {};
  if (seals < 0 || (seals & kTableSeals) != kTableSeals || ::fstat(fd.get(), &info) != 0 ||
      static_cast<std::size_t>(info.st_size) != kTableBytes) {
    return Status(Code::kInvalidArgument, "the peer's generation table is not sealed, or has another size");
  }
  const void* base = ::mmap(nullptr, kTableBytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (base == MAP_FAILED) return errno_status(Code::kOutOfMemory, "cannot map the peer's generation table");
  return std::shared_ptr<const GenerationView>(new GenerationView(base));
}

GenerationView::~GenerationView() { ::munmap(const_cast<void*>(base_), kTableBytes); }

bool GenerationView::live(const Handle& handle) const {
  if (handle.slot >= SlotTable::kCapacity || !is_live(handle.generation)) return false;
  return same_generation(static_cast<const std::uint64_t*>(base_) + handle.slot, handle.generation);
}

bool GenerationView::ended() const { return __atomic_load_n(static_cast<const std::uint64_t*>(base_) + kEnded, __ATOMIC_ACQUIRE) != 0; }

}  // namespace ray_hixl::memory
