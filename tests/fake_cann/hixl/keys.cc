#include "hixl/keys.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace fake_hixl {
namespace {

constexpr std::size_t kBytes = kMostKeys * sizeof(std::uint64_t);

struct OwnKeys {
  int fd = -1;
  std::unique_ptr<KeyTable> table;
  std::mutex mutex;
  std::uint64_t last_value = 0;  // guarded by mutex, as below
  std::uint32_t next_slot = 0;
  std::vector<std::uint32_t> free_slots;
};

OwnKeys& own() {
  static OwnKeys& instance = *[] {
    auto* keys = new OwnKeys;
    keys->fd = ::memfd_create("fake_hixl_keys", MFD_CLOEXEC);
    if (keys->fd >= 0 && ::ftruncate(keys->fd, kBytes) == 0) keys->table = KeyTable::map(keys->fd, true);
    if (keys->table == nullptr) {
      std::perror("FAKE HIXL: no memory for keys");
      std::abort();
    }
    return keys;
  }();
  return instance;
}

}  // namespace

std::unique_ptr<KeyTable> KeyTable::map(int fd, bool writable) {
  void* const memory = ::mmap(nullptr, kBytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? nullptr : std::unique_ptr<KeyTable>(new KeyTable(memory));
}

KeyTable::~KeyTable() { ::munmap(slots_, kBytes); }

int own_keys_fd() { return own().fd; }
const KeyTable& own_keys() { return *own().table; }

Key make_key() {
  OwnKeys& keys = own();
  const std::lock_guard lock(keys.mutex);
  Key key{keys.next_slot, ++keys.last_value};
  if (!keys.free_slots.empty()) {
    key.slot = keys.free_slots.back();
    keys.free_slots.pop_back();
  } else if (++keys.next_slot == kMostKeys) {
    std::fprintf(stderr, "FAKE HIXL: out of keys\n");
    std::abort();
  }
  keys.table->set(key);
  return key;
}

void drop_key(Key key) {
  const std::lock_guard lock(own().mutex);
  own().table->clear(key);
  own().free_slots.push_back(key.slot);
}

void revoke_key(Key key) { own().table->clear(key); }

}  // namespace fake_hixl
