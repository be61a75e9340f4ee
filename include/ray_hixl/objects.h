// Objects: lists of tensors, published by their source and fetched by any number of consumers.
//
// The layer knows shapes and element types, but neither Python nor torch: a source tensor is contiguous memory with a layout and an
// owner; a fetched tensor is memory in the landing arena with the same layout. Every method may be called from any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ray_hixl/engine.h"
#include "ray_hixl/fence.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "ray_hixl/transfer.h"

namespace ray_hixl {

// What a tensor looks like. `dtype` is the framework's own name of the element type ("bfloat16"); it travels as it is.
struct Layout {
  std::string dtype;
  std::uint32_t item_bytes = 0;  // bytes of one element
  std::vector<std::uint64_t> shape;

  [[nodiscard]] std::uint64_t elements() const;  // 1 for a 0-dimensional tensor
  [[nodiscard]] std::uint64_t bytes() const;
  friend bool operator==(const Layout&, const Layout&) = default;
};

// A tensor to publish. Contiguous, row-major. One in device memory may also lie in any other way: then its range has no address, and
// DeviceOps packs it.
struct SourceTensor {
  MemoryRange range;
  std::uint32_t layout = 0;  // index into the list of layouts given beside it
};

// What only the framework that made device tensors can do with them. Without one the runtime does it, for users whose work on the device is
// not queued by a framework. Called by publish() and fetch() in the caller's thread, with no lock held.
class DeviceOps {
 public:
  virtual ~DeviceOps() = default;
  // Behind what the caller's thread has queued on the stream that it uses on the device. What other streams do for the call is to be queued
  // before that, and waited for there (torch's wait_stream).
  [[nodiscard]] virtual Result<std::shared_ptr<Fence>> set_fence(std::int32_t device) = 0;
  // Queues copies of published tensors into device memory, contiguous and row-major, on that stream. A fence follows.
  struct Copy {
    std::size_t tensor = 0;  // index into the published list
    std::byte* to = nullptr;
  };
  [[nodiscard]] virtual Status pack(std::int32_t device, std::span<const Copy> copies) = 0;
  // The device that tensors of one of the source's come to where nobody chose one, as this process numbers them. Must open no other.
  [[nodiscard]] virtual std::int32_t landing_device(std::int32_t source_device) = 0;
};

// On which devices a fetch without targets is to receive device tensors, as this process numbers them; or kHost.
struct LandingWish {
  static constexpr std::int32_t kHost = -2;  // in host memory
  std::optional<std::int32_t> device;        // of tensors without a wish of their own; none: Options::landing_device, else DeviceOps choose
  std::vector<std::int32_t> of;              // by tensor, -1 for none; or nothing at all
};

// An object's metadata, decoded. Tensor i has layouts[layout_of(i)].
class Metadata {
 public:
  // Checks every length and count before allocating. kInvalidArgument names what is wrong (also for a newer version).
  [[nodiscard]] static Result<Metadata> decode(std::span<const std::byte> packed);

  // Not ok if the source could not publish: the outcome that a fetch ends with.
  [[nodiscard]] const Status& error() const { return error_; }
  [[nodiscard]] const Bytes& engine() const { return engine_; }  // the source engine's descriptor
  [[nodiscard]] const Handle& handle() const { return handle_; }
  [[nodiscard]] std::size_t size() const;  // tensors
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }
  [[nodiscard]] const std::vector<Layout>& layouts() const { return layouts_; }
  [[nodiscard]] std::uint32_t layout_of(std::size_t tensor) const;

  // A run of consecutive tensors of one layout.
  struct Run {
    std::uint32_t layout;
    std::uint64_t first;  // index of its first tensor
    std::uint64_t count;
  };
  [[nodiscard]] const std::vector<Run>& runs() const { return runs_; }

  // Consecutive tensors in the memory of one of the source's devices, one behind the other: each begins at the next multiple of `alignment`
  // behind the end of the one before (tensors without bytes take no place). Tensors in no placement are in host memory.
  struct Placement {
    std::uint64_t first = 0;      // index of its first tensor
    std::uint64_t count = 0;      // not 0
    std::int32_t device = 0;      // index as the source sees it, below 2^16
    std::uint64_t epoch = 0;      // the source's registration epoch from which on peers can reach it
    std::uint64_t address = 0;    // of the first tensor, at the source; 0 if none has bytes
    std::uint64_t alignment = 1;  // power of two, at most 4096
    friend bool operator==(const Placement&, const Placement&) = default;
  };
  // Ascending, disjoint. None if the source could not publish.
  [[nodiscard]] const std::vector<Placement>& placements() const { return placements_; }

 private:
  Status error_;
  Bytes engine_;
  Handle handle_;
  std::uint64_t bytes_ = 0;
  std::uint64_t size_ = 0;
  std::vector<Layout> layouts_;
  std::vector<Run> runs_;
  std::vector<Placement> placements_;
};

// A fetched tensor's memory. `block` keeps it; dropping the last copy gives the memory back and is safe in any thread, without the GIL,
// after the engine was closed, and in a forked child (where it does nothing).
struct FetchedTensor {
  std::byte* address = nullptr;  // null for a tensor without elements
  std::uint64_t length = 0;      // bytes
  std::uint32_t layout = 0;      // index into the metadata's layouts
  MemoryKind kind = MemoryKind::kHost;
  std::int32_t device = 0;  // index as this process sees it; 0 for host memory
  std::shared_ptr<void> block;
};

class FetchImpl;
// A fetch under way.
class Fetch {
 public:
  explicit Fetch(std::shared_ptr<FetchImpl> impl) : impl_(std::move(impl)) {}
  [[nodiscard]] const Transfer& transfer() const;
  // The metadata it was started with, decoded; valid for as long as this handle. Not decodable: an empty one, and the transfer failed.
  [[nodiscard]] const Metadata& metadata() const;
  // The tensors in published order; their memory moves out, so the second call gives kInvalidArgument, and so does one before
  // transfer().done(). With targets: the targets. The transfer's failure is returned here too.
  [[nodiscard]] Result<std::vector<FetchedTensor>> take() const;

 private:
  std::shared_ptr<FetchImpl> impl_;
};

class ObjectsImpl;
class Objects {
 public:
  [[nodiscard]] static Result<Objects> create(const Engine& engine);

  // kClosed once its engine was closed, and in a forked child: what publish() would only tell whoever fetches.
  [[nodiscard]] Status check() const;
  // Makes an object of `tensors` and gives its packed metadata. `owner` keeps all their memory; it is dropped on the engine's reaper
  // thread after release() when the last reader is gone. Never fails: what goes wrong travels in the metadata. Device tensors that peers
  // cannot read as they are get packed into a slab; either way this returns once what was queued before it on the stream of DeviceOps is
  // done, or with kDeviceBusy after Options::publish_timeout_s. With Options::publish "snapshot" all tensors are copied before it returns,
  // and the owner is dropped soon afterwards, on the reaper.
  [[nodiscard]] Bytes publish(std::span<const Layout> layouts, std::span<const SourceTensor> tensors, std::shared_ptr<const void> owner,
                              DeviceOps* ops = nullptr) const;
  // Metadata of an object that could not be made: `error` is what a fetch of it ends with. `layouts`/`tensors` still describe it.
  [[nodiscard]] Bytes publish_error(std::span<const Layout> layouts, std::span<const std::uint32_t> layout_of, const Status& error) const;
  // Starts fetching into new memory, or into `targets` (one range per tensor, of exactly its size, in any memory; kept alive by
  // `targets_owner`). Never fails itself: the transfer does. Without targets device tensors come to the device of `wish` (kInvalidArgument
  // if there is none such). Device targets must be registered; what was queued before on the stream of DeviceOps may still use them, so
  // this waits for it, until the timeout, which ends the transfer with kDeviceBusy.
  [[nodiscard]] Fetch fetch(std::span<const std::byte> packed, std::span<const MemoryRange> targets,
                            std::shared_ptr<const void> targets_owner, std::chrono::nanoseconds timeout, DeviceOps* ops = nullptr,
                            const LandingWish& wish = {}) const;
  // Frees an object published here: retired before this returns, cleaned up later. Never blocks. False if it was unknown or freed.
  bool release(std::span<const std::byte> packed) const;

 private:
  explicit Objects(std::shared_ptr<ObjectsImpl> impl) : impl_(std::move(impl)) {}
  std::shared_ptr<ObjectsImpl> impl_;
};

}  // namespace ray_hixl
