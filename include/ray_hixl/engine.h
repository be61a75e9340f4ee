// Engine: registers memory, connects to peers and reads their regions, one-sidedly. Start here.
//
// One engine per process is the usual number. Handles (Engine, Region, Peer, Batch) are cheap to copy; copies share. Every method may
// be called from any thread. Every call that waits has a deadline. After close(), and at once in a forked child, every call fails with
// Code::kClosed; the child can make an engine of its own. See docs/design.md for the words, docs/threading.md for threads and forks.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ray_hixl/fence.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/options.h"
#include "ray_hixl/stats.h"
#include "ray_hixl/status.h"
#include "ray_hixl/transfer.h"

namespace ray_hixl {

class EngineImpl;
class RegionImpl;
class PeerImpl;

using Bytes = std::vector<std::byte>;

// Registered local memory. Where an owner was given to register_memory, it keeps the memory until nothing uses it any more. Without one the
// memory must stay valid until wait_unused() gave true: a transfer may still write to a region, or an owner still send out of one, that
// was closed. The last handle closes the region. A region does not keep its engine open.
class Region {
 public:
  explicit Region(std::shared_ptr<RegionImpl> impl) : impl_(std::move(impl)) {}
  [[nodiscard]] MemoryRange range() const;
  [[nodiscard]] Bytes descriptor() const;  // for peer.region() elsewhere; a secret
  [[nodiscard]] bool is_open() const;
  // Revokes it: a peer's read that has not been checked yet fails with kInvalidRegion. Idempotent. Never blocks; what is under way goes on.
  void close() const;
  // True once the region was closed and nothing here uses its memory any more: no transfer (they end, or are stopped, as transfer.h says),
  // no batch made with it, no owner that was given with it. False if that is not so within `timeout`, and at once in a
  // forked child.
  [[nodiscard]] bool wait_unused(std::chrono::nanoseconds timeout = std::chrono::seconds(1)) const;
  [[nodiscard]] const std::shared_ptr<RegionImpl>& impl() const { return impl_; }

 private:
  std::shared_ptr<RegionImpl> impl_;
};

// One piece of a batch: `length` bytes between a local region and a peer's region.
struct BatchOp {
  Region local;
  std::uint64_t local_offset = 0;
  RemoteRegion remote;
  std::uint64_t remote_offset = 0;
  std::uint64_t length = 0;  // 0 is allowed and moves nothing
};

// The same as arrays, for many ops: op i is locals[local_index[i]] + local_offset[i] <- remotes[remote_index[i]] + remote_offset[i],
// length[i] bytes. All spans have the same length.
struct BatchArrays {
  std::span<const Region> locals;
  std::span<const std::int64_t> local_index;
  std::span<const std::int64_t> local_offset;
  std::span<const RemoteRegion> remotes;
  std::span<const std::int64_t> remote_index;
  std::span<const std::int64_t> remote_offset;
  std::span<const std::int64_t> length;
};

class BatchImpl;
// Ops that were checked once and may be submitted any number of times.
class Batch {
 public:
  explicit Batch(std::shared_ptr<const BatchImpl> impl) : impl_(std::move(impl)) {}
  [[nodiscard]] std::uint64_t bytes() const;
  [[nodiscard]] std::size_t size() const;  // ops
  [[nodiscard]] const std::shared_ptr<const BatchImpl>& impl() const { return impl_; }

 private:
  std::shared_ptr<const BatchImpl> impl_;
};

// How bytes travel from one kind of memory of a peer to one kind here, and why not otherwise.
struct PathInfo {
  std::string transport;                                     // empty if none is possible
  std::vector<std::pair<std::string, std::string>> refused;  // transport -> a sentence why not
};

// A connection from this engine to a peer: this engine reads; the peer needs a connection of its own to read here.
// Copies share; the last handle closes it. A peer keeps its engine open. What it stands on is closed when nobody used it for
// idle_timeout_s; the next use connects again, and ends with kConnectError if it cannot.
class Peer {
 public:
  explicit Peer(std::shared_ptr<PeerImpl> impl) : impl_(std::move(impl)) {}

  // Decodes a region descriptor of that peer. kInvalidRegion if it belongs to another engine or incarnation.
  [[nodiscard]] Result<RemoteRegion> region(std::span<const std::byte> descriptor) const;
  // Checks the ops (bounds, open regions, this peer); an error names the op. The batch keeps the local regions open until it is gone or
  // they are closed by hand. Where local ranges of one batch overlap, their contents are undefined afterwards.
  [[nodiscard]] Result<Batch> prepare(std::span<const BatchOp> ops) const;
  [[nodiscard]] Result<Batch> prepare(const BatchArrays& ops) const;
  // Starts reading; the transfer ends at the latest at the timeout. Argument errors end the transfer, too: this never fails itself.
  [[nodiscard]] Transfer read_async(const Batch& batch, std::chrono::nanoseconds timeout) const;
  // read_async and wait.
  [[nodiscard]] Status read(const Batch& batch, std::chrono::nanoseconds timeout) const;
  // The path for a read from memory there (ordinary memory of the host, or that region) into such memory here, as it is now: a link that
  // was made in a shortage is replaced by a better one later. kNotAvailable between host and device memory. Asking for device memory loads
  // CANN.
  [[nodiscard]] Result<PathInfo> path(MemoryKind local, MemoryKind remote) const;
  [[nodiscard]] Result<PathInfo> path(MemoryKind local, const RemoteRegion& remote) const;
  // Transfers under way end with kClosed. Idempotent.
  void close() const;
  [[nodiscard]] const std::shared_ptr<PeerImpl>& impl() const { return impl_; }

 private:
  std::shared_ptr<PeerImpl> impl_;
};

class Engine {
 public:
  // Listens and starts the event loop; no other thread runs until something is copied.
  [[nodiscard]] static Result<Engine> create(const Options& options);

  // For Engine.connect() elsewhere. Holds the engine's secret: whoever has it can read the engine's published memory.
  [[nodiscard]] Bytes descriptor() const;
  // Registers `range`. `owner` (may be null) is kept until the region is closed and no transfer uses it, and is then dropped on the
  // engine's reaper thread. An empty range is allowed. Device memory: HIXL is given the whole allocation that holds the range (`segment`,
  // if the caller knows it; else as the runtime says), and keeps it, and the owner, until that can be undone, which may be at the end;
  // kNotAvailable says why it cannot have it. Pinned memory that allocate() gave stays so, also when that region is closed; where it is
  // registered no more the region's range says kHost.
  [[nodiscard]] Result<Region> register_memory(const MemoryRange& range, bool remote_write, std::shared_ptr<const void> owner,
                                               const MemoryRange& segment = {}) const;
  // Registered memory: in the source arena, which peers on this host map, in a slab of a device, or (kPinned) host memory that a device
  // pins, an allocation of its own. Recycled when the region is closed and its last user is gone; what is pinned is given back. Its range
  // says kHost where HIXL does not take it, and Stats why: then it is host memory as any other. Where only memory is left in the slabs that
  // was freed while the device may still use it, `set_fence` comes first, and kDeviceBusy after Options::transfer_timeout_s. By default the
  // runtime sets it, which does not know of work that a framework has queued and not handed on yet.
  [[nodiscard]] Result<Region> allocate(std::uint64_t bytes, MemoryKind kind = MemoryKind::kHost, std::int32_t device = 0,
                                        const SetFence& set_fence = {}) const;
  // At least so many bytes in the slabs of a device, taken now rather than when they are needed. Its first use starts the device.
  [[nodiscard]] Status reserve(std::int32_t device, std::uint64_t bytes) const;
  // Can peers read these bytes of device memory as they are? Host memory, pinned or not: always.
  [[nodiscard]] bool is_registered(const MemoryRange& range) const;
  // Connects, or joins a connection there is. kConnectError says whether it was reached, refused, timed out or failed to prove itself;
  // kInvalidArgument: the bytes are no descriptor.
  [[nodiscard]] Result<Peer> connect(std::span<const std::byte> descriptor, std::chrono::nanoseconds timeout) const;
  // Empty in a forked child.
  [[nodiscard]] Stats stats() const;
  [[nodiscard]] const Options& options() const;
  // Transfers under way end with kClosed; threads are joined; arena memory in use outlives it. Idempotent. An engine whose last handle goes
  // without it is closed in the background.
  void close() const;
  [[nodiscard]] const std::shared_ptr<EngineImpl>& impl() const { return impl_; }

 private:
  explicit Engine(std::shared_ptr<EngineImpl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<EngineImpl> impl_;
};

// One line per transport on this machine: usable, or a sentence why not and what to do. Needs no engine. Loads CANN's libraries if they are
// here, which engines do not.
struct TransportProbe {
  std::string transport;
  bool usable = false;
  std::string reason;  // empty when usable
};
[[nodiscard]] std::vector<TransportProbe> probe_transports();

}  // namespace ray_hixl
