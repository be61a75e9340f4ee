// Memory as the engine sees it: plain values that name bytes here (MemoryRange), a slot of an engine (Handle) and a peer's region.
//
// All types here are immutable values, safe to copy to and read from any thread.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace ray_hixl {

// kPinned: host memory that the runtime of a device has pinned and that HIXL's engine there knows, so that it moves it as it does the
// device's.
enum class MemoryKind : std::uint8_t { kHost = 0, kDevice = 1, kPinned = 2 };

// Contiguous bytes of this process (or of one of its devices).
struct MemoryRange {
  std::byte* address = nullptr;
  std::uint64_t length = 0;  // bytes
  MemoryKind kind = MemoryKind::kHost;
  std::int32_t device = 0;  // device index, also of what is pinned; 0 for host memory
};

// Random id of one engine's life. A restarted process has another.
using Incarnation = std::array<std::byte, 16>;

// Names a slot of an engine: a region or an object. Stale as soon as the slot's generation moved on. The key is random, so that a
// handle cannot be guessed from another one; handles travel inside descriptors and are secrets like them.
struct Handle {
  std::uint32_t slot = 0;
  std::uint64_t generation = 0;  // odd while live; 0 is never live
  std::uint64_t key = 0;

  friend bool operator==(const Handle&, const Handle&) = default;
};

// A region of a peer, as its descriptor describes it. Checked by the owner (or against its generation table) at every use.
struct RemoteRegion {
  Incarnation owner{};
  Handle handle;
  std::uint64_t length = 0;  // bytes
  MemoryKind kind = MemoryKind::kHost;
  std::int32_t device = 0;
  bool remote_write = false;  // may peers write to it?
};

}  // namespace ray_hixl

template <>
struct std::hash<ray_hixl::Handle> {
  std::size_t operator()(const ray_hixl::Handle& handle) const noexcept { return static_cast<std::size_t>(handle.key); }
};
