#include <algorithm>

#include "control/descriptor.h"
#include "engine/peer_impl.h"
#include "engine/pending.h"
#include "engine/region_impl.h"

namespace ray_hixl {
namespace {

Status closed_status() { return Status(Code::kClosed, "the peer was closed; connect again"); }

// Bytes stay in one kind of memory on their way.
Status check_same(MemoryKind local, MemoryKind remote) {
  if (local == remote) return Status::ok();
  return Status(Code::kNotAvailable, "bytes move from host to host memory or from device to device memory; copy on one side");
}

}  // namespace

Status PeerImpl::check() const {
  RAY_HIXL_RETURN_IF_ERROR(engine_->check());
  const MutexLock lock(mutex_);
  return closed_ ? closed_status() : Status::ok();
}

void PeerImpl::close() {
  if (engine_->in_child()) return;
  std::vector<std::weak_ptr<transport::TransferState>> transfers;
  {
    const MutexLock lock(mutex_);
    closed_ = true;
    transfers.swap(transfers_);
  }
  for (const auto& weak : transfers) {
    if (const auto transfer = weak.lock()) transfer->request_stop(closed_status());
  }
}

bool PeerImpl::track(const std::shared_ptr<transport::TransferState>& transfer) {
  const MutexLock lock(mutex_);
  if (closed_) return false;
  if (transfers_.size() >= sweep_at_) {
    std::erase_if(transfers_, [](const auto& weak) {
      const auto one = weak.lock();
      return !one || one->done();
    });
    sweep_at_ = std::max<std::size_t>(64, 2 * transfers_.size());
  }
  transfers_.push_back(transfer);
  return true;
}

Status PeerImpl::check_batch(const BatchImpl& batch) const {
  if (batch.reader != engine_->self() || batch.owner != incarnation()) {
    return Status(Code::kInvalidRegion, "the batch was prepared with another peer; prepare it with the one that reads it");
  }
  for (const Region& local : batch.locals) {
    if (!engine_->slots().live(local.impl()->described().handle)) {
      return Status(Code::kInvalidRegion, "a local region of the batch was closed; keep regions open while batches use them");
    }
  }
  return Status::ok();
}

std::shared_ptr<transport::TransferState> PeerImpl::read(const BatchImpl& batch, std::chrono::nanoseconds timeout) {
  auto transfer = engine_->new_transfer(deadline_in(timeout));
  Status checked = engine_->check();
  if (checked.is_ok() && !track(transfer)) checked = closed_status();
  if (checked.is_ok()) checked = check_batch(batch);
  if (checked.is_ok()) {
    link_->submit(batch.plan, transfer);
  } else {
    transfer->finish(checked);
  }
  return transfer;
}

PathInfo PeerImpl::path(transport::RemoteMemory memory) const {
  const link::Paths& paths = link_->paths();
  const link::Candidate* chosen = paths.choose(memory);
  PathInfo info;
  if (chosen != nullptr) info.transport = control::kind_name(chosen->kind);
  info.refused = paths.refused(memory);
  const auto& absent = engine_->absent_transports();
  info.refused.insert(info.refused.end(), absent.begin(), absent.end());
  return info;
}

Result<transport::RemoteMemory> PeerImpl::locate(const Handle& handle) {
  const Deadline deadline = Deadline::in(seconds_to_duration(engine_->options().connect_timeout_s));
  const auto pending = std::make_shared<Pending<Result<transport::RemoteMemory>>>();
  link_->locate(handle, deadline, [pending](Result<transport::RemoteMemory> answer) { pending->set(std::move(answer)); });
  auto answer = pending->wait(deadline);
  if (answer) return *std::move(answer);
  return Status(Code::kTransferTimeout, "no answer from the " + link_->peer().descriptor.name() + " within connect_timeout_s");
}

Result<RemoteRegion> Peer::region(std::span<const std::byte> descriptor) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  Result<RemoteRegion> region = control::decode_region(descriptor);
  if (region.is_ok() && region->owner != impl_->incarnation()) {
    return Status(Code::kInvalidRegion, "the region belongs to another engine than this peer, or to an earlier life of it");
  }
  return region;
}

Result<Batch> Peer::prepare(std::span<const BatchOp> ops) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  return prepare_batch(impl_->engine(), impl_->incarnation(), ops);
}

Result<Batch> Peer::prepare(const BatchArrays& ops) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  return prepare_batch(impl_->engine(), impl_->incarnation(), ops);
}

Transfer Peer::read_async(const Batch& batch, std::chrono::nanoseconds timeout) const {
  return Transfer(impl_->read(*batch.impl(), timeout));
}

Status Peer::read(const Batch& batch, std::chrono::nanoseconds timeout) const {
  const Transfer transfer = read_async(batch, timeout);
  if (transfer.wait()) return transfer.result();
  return Status(Code::kInternal, "a read did not end at its deadline");
}

Result<PathInfo> Peer::path(MemoryKind local, MemoryKind remote) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  RAY_HIXL_RETURN_IF_ERROR(check_same(local, remote));
  return impl_->path(local == MemoryKind::kHost ? transport::RemoteMemory::kOrdinary : transport::RemoteMemory::kDevice);
}

Result<PathInfo> Peer::path(MemoryKind local, const RemoteRegion& remote) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  RAY_HIXL_RETURN_IF_ERROR(check_same(local, remote.kind));
  if (remote.owner != impl_->incarnation()) {
    return Status(Code::kInvalidRegion, "the region belongs to another engine than this peer, or to an earlier life of it");
  }
  if (local == MemoryKind::kDevice) return impl_->path(transport::RemoteMemory::kDevice);
  const Result<transport::RemoteMemory> memory = impl_->locate(remote.handle);
  if (!memory.is_ok()) return memory.status();
  return impl_->path(*memory);
}

void Peer::close() const { impl_->close(); }

}  // namespace ray_hixl
