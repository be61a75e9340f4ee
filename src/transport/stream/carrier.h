// Carrier: what a transport over such connections brings besides host memory, which a socket sends from and receives into as it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "control/kinds.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"
#include "transport/job.h"
#include "transport/transport.h"

namespace ray_hixl::transport::stream {

// The payload of one answer, as host memory, bit by bit. Loop thread; destroyed in any, while what it had begun may go on.
class Outflow {
 public:
  virtual ~Outflow() = default;
  // The bytes that come next, as far as they are there; empty: none is just now, and `more` will be called.
  [[nodiscard]] virtual std::span<const std::byte> ready() = 0;
  // So many bytes of ready() are not needed any more.
  virtual void sent(std::uint64_t bytes) = 0;
  // Not ok: nothing more will be ready, and why.
  [[nodiscard]] virtual Status status() const = 0;
};

// Where the payload of one answer goes that is not all for host memory. Loop thread. Dropped without end() it writes nothing.
class Inflow {
 public:
  virtual ~Inflow() = default;
  // Where the next bytes are to be received; empty: nowhere just now, and `more` will be called. Once there was room the rest comes without
  // help of the peer.
  [[nodiscard]] virtual std::span<std::byte> room() = 0;
  virtual void received(std::uint64_t bytes) = 0;
  // Not ok: there will be no room, and why.
  [[nodiscard]] virtual Status status() const = 0;
  // Brings what was received to its place, if `status` is ok, and ends the job with `status`, or what went wrong, when nothing writes to
  // its memory any more: in any thread.
  virtual void end(const Status& status) = 0;
};

// The payload's next bytes that lie together, at most `most` of them; nullopt at its end. For as long as the answer lives. Loop thread.
using NextRange = std::function<std::optional<MemoryRange>(std::uint64_t most)>;

struct Carrier {
  control::TransportKind kind{};
  std::function<Status(RemoteMemory memory)> can_read;  // see Channel::can_read()
  // Any thread may call `more`, which may come late, and more often than needed. `device`: one of the payload's. `keep` has its memory.
  // Null: device memory is refused.
  std::function<std::unique_ptr<Outflow>(std::int32_t device, NextRange payload, std::shared_ptr<const void> keep,
                                         std::function<void()> more)>
      open_outflow;
  // Null, or giving null: the job's memory is the host's.
  std::function<std::shared_ptr<Inflow>(const std::shared_ptr<Job>& job, std::function<void()> more)> open_inflow;
};

}  // namespace ray_hixl::transport::stream
