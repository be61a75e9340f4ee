// Link: this engine's connection to one remote engine, as the reading side. It has finished its handshake and chosen its channels.
//
// It resolves slots, splits a transfer into jobs, watches deadlines and the peer's life, checks generations after the last byte, and ends
// every transfer exactly once. Made by Links; shared by everything that reads from that peer. Any thread may call any method.
#pragma once

#include <functional>
#include <memory>

#include "control/messages.h"
#include "link/path.h"
#include "ray_hixl/status.h"
#include "transport/job.h"
#include "transport/transport.h"

namespace ray_hixl::link {

class Link {
 public:
  virtual ~Link() = default;

  // Reads what the plan says. The state ends when the last byte is in and every source was still live (kInvalidRegion otherwise) and the
  // peer alive (kPeerGone otherwise), or with the first error, at the latest a second after its deadline: see flight.h for what stopping
  // means.
  // False, and nothing happens, if the link was retired: Links has, or makes, the one to use.
  [[nodiscard]] virtual bool submit(std::shared_ptr<const transport::Plan> plan, std::shared_ptr<transport::TransferState> state) = 0;

  // Which memory holds the slot: one round trip if nobody asked before. False, and `answer` is not called, as above.
  [[nodiscard]] virtual bool memory_of(const Handle& handle, std::function<void(Result<transport::RemoteMemory>)> answer) = 0;

  // Was it closed because nobody used it for long, or replaced by a better one? What it still carries comes to its end.
  [[nodiscard]] virtual bool is_retired() const = 0;

  [[nodiscard]] virtual const transport::PeerView& peer() const = 0;
  [[nodiscard]] virtual const Paths& paths() const = 0;
  // ok while it is up; then why it is not.
  [[nodiscard]] virtual Status state() const = 0;
  // Transfers under way end with `why`. Idempotent; returns at once.
  virtual void close(const Status& why) = 0;
};

}  // namespace ray_hixl::link
