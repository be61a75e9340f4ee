// Staging: pinned host buffers of a device, and the thread that copies between them and the device.
//
// Buffers for bytes that leave the device lie in the source arena, so that peers of this host may map them.
//
// Bytes that leave the device and bytes that come to it have buffers of their own, a bounded number each, and who finds none waits for its
// turn. So that two engines that read from each other never wait in a circle: whoever asks a peer for bytes has all buffers that they come
// through first, and whoever fills one for a peer waits for nothing else.
// Any thread. Buffers keep what they need and may die after the engine; the thread starts at the first use.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "base/deadline.h"
#include "memory/arena.h"
#include "ray_hixl/status.h"

namespace ray_hixl::device {

// How the runtime of a device does it. Kept for as long as there are buffers.
class StagingRuntime {
 public:
  virtual ~StagingRuntime() = default;
  // Makes the device the calling thread's. First, on the thread of the Staging.
  [[nodiscard]] virtual Status enter() = 0;
  // Host memory that the device copies from and to without another copy on the way.
  [[nodiscard]] virtual Result<std::byte*> allocate(std::uint64_t bytes) = 0;
  virtual void free(std::byte* memory) noexcept = 0;  // any thread
  // Makes it of memory of ours, in whole pages, where the runtime can. False: the device copies there, too, only slower.
  [[nodiscard]] virtual bool pin(std::byte* memory, std::uint64_t bytes) = 0;
  virtual void unpin(std::byte* memory) noexcept = 0;  // any thread
  // Done when they return; on a thread that entered.
  [[nodiscard]] virtual Status to_host(std::byte* to, const std::byte* from, std::uint64_t length) = 0;
  [[nodiscard]] virtual Status to_device(std::byte* to, const std::byte* from, std::uint64_t length) = 0;
};

class Staging {
 public:
  static constexpr std::uint64_t kBufferBytes = std::uint64_t{1} << 20;
  static constexpr std::size_t kBuffersEachWay = 16;
  static constexpr std::chrono::seconds kIdle{10};

  enum class Way : std::uint8_t { kOut, kIn };        // as the device sees it
  using Buffer = std::shared_ptr<std::byte>;          // of kBufferBytes; given back when the last copy dies, in any thread
  using Taken = std::function<void(Result<Buffer>)>;  // on the thread of this, or in take()
  using Work = std::function<Status(StagingRuntime& runtime)>;
  using Done = std::function<void(const Status& status)>;

  // `name` of the thread, at most 15 bytes. `source`: what peers map. `idle`: until memory that nobody uses is given back, and until
  // memory that there was not is asked for again.
  Staging(std::string name, std::unique_ptr<StagingRuntime> runtime, std::shared_ptr<memory::Arena> source,
          std::chrono::nanoseconds idle = kIdle);
  ~Staging();  // REQUIRES: stop(), if anything was asked of it
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Gives a buffer as soon as there is one, in the order of asking, and both ways by turns. kClosed after stop() and in a forked child;
  // what allocate(), the arena or enter() failed with.
  void take(Way way, const Taken& taken);
  // May somebody who has one take another one? Nobody waits, and half of them are nobody's.
  [[nodiscard]] bool has_spare(Way way) const;
  // Runs `work` on the thread, after those before it, and then `done` with what it gave. Where it fails, with kClosed or kOutOfMemory,
  // neither will run.
  [[nodiscard]] Status run(Work work, Done done);
  // Runs what was given to run(), fails what waits in take(), joins. Idempotent. Not from its own thread. False: the device had not let go
  // of a copy at the deadline. Then the thread stays behind for ever, with what it copies, and tells nobody any more.
  [[nodiscard]] bool stop(Deadline deadline);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with buffers
};

}  // namespace ray_hixl::device
