// Keys of registered regions, in memory that the process shares: a peer can see at any moment whether a region is still registered, as its
// NIC would. Any thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace fake_hixl {

struct Key {
  std::uint32_t slot = 0;
  std::uint64_t value = 0;
};

inline constexpr std::size_t kMostKeys = std::size_t{64} << 10;

// One process's keys, mapped.
class KeyTable {
 public:
  // Of another process's descriptor, opened; null if it cannot be mapped.
  [[nodiscard]] static std::unique_ptr<KeyTable> map(int fd, bool writable);
  ~KeyTable();
  KeyTable(const KeyTable&) = delete;
  KeyTable& operator=(const KeyTable&) = delete;

  [[nodiscard]] bool is_valid(Key key) const { return slots_[key.slot].load() == key.value; }
  void set(Key key) { slots_[key.slot] = key.value; }
  void clear(Key key) { slots_[key.slot] = 0; }

 private:
  explicit KeyTable(void* memory) : slots_(static_cast<std::atomic<std::uint64_t>*>(memory)) {}
  std::atomic<std::uint64_t>* slots_;
};

// This process's own.
[[nodiscard]] int own_keys_fd();
[[nodiscard]] const KeyTable& own_keys();
[[nodiscard]] Key make_key();
// The key is no longer valid; its slot is used again.
void drop_key(Key key);
// The key is no longer valid, but will be dropped as well.
void revoke_key(Key key);

}  // namespace fake_hixl
