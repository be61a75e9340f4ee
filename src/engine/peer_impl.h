// PeerImpl: what the copies of a Peer share: a link that others may use, too, and the transfers that this peer started on it.
//
// A link that was retired (idle for long, or replaced by a better one) is asked for anew at the next use; one that was lost stays so.
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
  PeerImpl(std::shared_ptr<EngineImpl> engine, std::shared_ptr<link::Link> link)
      : engine_(std::move(engine)), descriptor_(link->peer().descriptor), link_(std::move(link)) {}
  ~PeerImpl() { close(); }
  PeerImpl(const PeerImpl&) = delete;
  PeerImpl& operator=(const PeerImpl&) = delete;

  // kClosed once the peer or the engine is closed.
  [[nodiscard]] Status check() const;
  void close();
  [[nodiscard]] EngineImpl& engine() { return *engine_; }
  [[nodiscard]] const Incarnation& incarnation() const { return descriptor_.incarnation; }
  [[nodiscard]] std::shared_ptr<transport::TransferState> read(const BatchImpl& batch, std::chrono::nanoseconds timeout);
  // The path for bytes in such memory of the peer, or in the slot. Waits for at most the engine's connect timeout.
  [[nodiscard]] Result<PathInfo> path(transport::RemoteMemory memory);
  [[nodiscard]] Result<PathInfo> path(const Handle& handle);

 private:
  [[nodiscard]] Status check_batch(const BatchImpl& batch) const;
  // Remembers it for close(), and gives the link it may go on. Null if the peer was closed before.
  [[nodiscard]] std::shared_ptr<link::Link> track(const std::shared_ptr<transport::TransferState>& transfer);
  [[nodiscard]] std::shared_ptr<link::Link> current_link() const;
  void submit(const std::shared_ptr<const transport::Plan>& plan, const std::shared_ptr<transport::TransferState>& transfer);
  void submit_anew(const std::shared_ptr<const transport::Plan>& plan, const std::shared_ptr<transport::TransferState>& transfer);
  // The link to use now; waits for it.
  [[nodiscard]] Result<std::shared_ptr<link::Link>> link(Deadline deadline);
  [[nodiscard]] PathInfo path_over(const link::Link& link, transport::RemoteMemory memory) const;
  [[nodiscard]] Deadline connect_deadline() const;

  const std::shared_ptr<EngineImpl> engine_;
  const control::EngineDescriptor descriptor_;
  mutable Mutex mutex_;
  std::shared_ptr<link::Link> link_ RAY_HIXL_GUARDED_BY(mutex_);  // shared with everything that reads from that engine
  bool closed_ RAY_HIXL_GUARDED_BY(mutex_) = false;
  std::vector<std::weak_ptr<transport::TransferState>> transfers_ RAY_HIXL_GUARDED_BY(mutex_);  // ended ones are swept out now and then
  std::size_t sweep_at_ RAY_HIXL_GUARDED_BY(mutex_) = 64;
};

}  // namespace ray_hixl
