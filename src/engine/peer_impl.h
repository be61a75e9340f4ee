// PeerImpl: what the copies of a Peer share: a link that others may use, too, and the transfers that this peer started on it.
//
// Keeps the engine. Closed by close() or with the last copy: its own transfers end then, the link stays for whoever else uses it.
// Any thread may call any method.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "engine/batch_impl.h"
#include "engine/engine_impl.h"
#include "link/link.h"
#include "ray_hixl/engine.h"

namespace ray_hixl {

class PeerImpl {
 public:
  PeerImpl(std::shared_ptr<EngineImpl> engine, std::shared_ptr<link::Link> link) : engine_(std::move(engine)), link_(std::move(link)) {}
  ~PeerImpl() { close(); }
  PeerImpl(const PeerImpl&) = delete;
  PeerImpl& operator=(const PeerImpl&) = delete;

  // kClosed once the peer or the engine is closed.
  [[nodiscard]] Status check() const;
  void close();
  [[nodiscard]] EngineImpl& engine() { return *engine_; }
  [[nodiscard]] const Incarnation& incarnation() const { return link_->peer().descriptor.incarnation; }
  [[nodiscard]] std::shared_ptr<transport::TransferState> read(const BatchImpl& batch, std::chrono::nanoseconds timeout);
  // The path for bytes in such memory of the peer.
  [[nodiscard]] PathInfo path(transport::RemoteMemory memory) const;
  // Which memory of the peer holds the slot. Waits for at most the engine's connect timeout.
  [[nodiscard]] Result<transport::RemoteMemory> locate(const Handle& handle);

 private:
  [[nodiscard]] Status check_batch(const BatchImpl& batch) const;
  // Remembers it for close(). False if that was before.
  [[nodiscard]] bool track(const std::shared_ptr<transport::TransferState>& transfer);

  const std::shared_ptr<EngineImpl> engine_;
  const std::shared_ptr<link::Link> link_;  // shared with everything that reads from that engine
  mutable Mutex mutex_;
  bool closed_ RAY_HIXL_GUARDED_BY(mutex_) = false;
  std::vector<std::weak_ptr<transport::TransferState>> transfers_ RAY_HIXL_GUARDED_BY(mutex_);  // ended ones are swept out now and then
  std::size_t sweep_at_ RAY_HIXL_GUARDED_BY(mutex_) = 64;
};

}  // namespace ray_hixl
