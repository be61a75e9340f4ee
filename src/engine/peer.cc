#include <algorithm>
#include <iterator>

#include "control/descriptor.h"
#include "engine/peer_impl.h"
#include "engine/pending.h"
#include "engine/region_impl.h"
#include "link/waiting_flight.h"

namespace ray_hixl {
namespace {

Status peer_closed() { return Status(Code::kClosed, "the peer was closed; connect again"); }

// Where what lies in such memory here and there belongs; host memory on both sides: ordinary memory of the peer.
transport::RemoteMemory memory_between(MemoryKind local, MemoryKind remote) {
  const bool on_device = local == MemoryKind::kDevice;
  if (on_device != (remote == MemoryKind::kDevice)) return transport::RemoteMemory::kAcross;
  return on_device ? transport::RemoteMemory::kDevice : transport::RemoteMemory::kOrdinary;
}

// Does HIXL know the host memory of it, if it moves such memory at all?
bool is_pinned(MemoryKind local, MemoryKind remote) {
  const bool is_known = local != MemoryKind::kHost && remote != MemoryKind::kHost;
  return is_known && (local == MemoryKind::kPinned || remote == MemoryKind::kPinned);
}

// `hixl`: why it does not move the pinned memory, in place of why it does not move what the memory is otherwise.
PathInfo with_reason(PathInfo path, const PathInfo& hixl) {
  const auto is_hixl = [](const auto& each) { return each.first == "hixl"; };
  std::erase_if(path.refused, is_hixl);
  std::ranges::copy_if(hixl.refused, std::back_inserter(path.refused), is_hixl);
  return path;
}

// What HIXL does not move as pinned goes as what it is `otherwise`.
template <class Otherwise>
Result<PathInfo> path_between(PeerImpl& peer, MemoryKind local, MemoryKind remote, Otherwise otherwise) {
  if (!is_pinned(local, remote)) return otherwise();
  Result<PathInfo> pinned = peer.path(transport::RemoteMemory::kPinned);
  if (!pinned.is_ok() || !pinned->transport.empty()) return pinned;
  Result<PathInfo> path = otherwise();
  return path.is_ok() ? with_reason(*std::move(path), *pinned) : path;
}

}  // namespace

Status PeerImpl::check() const {
  RAY_HIXL_RETURN_IF_ERROR(engine_->check());
  const MutexLock lock(mutex_);
  return closed_ ? peer_closed() : Status::ok();
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
    if (const auto transfer = weak.lock()) transfer->request_stop(peer_closed());
  }
}

std::shared_ptr<link::Link> PeerImpl::track(const std::shared_ptr<transport::TransferState>& transfer) {
  const MutexLock lock(mutex_);
  if (closed_) return nullptr;
  if (transfers_.size() >= sweep_at_) {
    std::erase_if(transfers_, [](const auto& weak) {
      const auto one = weak.lock();
      return !one || one->done();
    });
    sweep_at_ = std::max<std::size_t>(64, 2 * transfers_.size());
  }
  transfers_.push_back(transfer);
  return link_;
}

Deadline PeerImpl::connect_deadline() const { return Deadline::in(seconds_to_duration(engine_->options().connect_timeout_s)); }

Result<std::shared_ptr<link::Link>> PeerImpl::link(Deadline deadline) {
  {
    const MutexLock lock(mutex_);
    if (!link_->is_retired()) return link_;
  }
  Result<std::shared_ptr<link::Link>> link = engine_->open_link(descriptor_, deadline);
  if (!link.is_ok()) return link;
  const MutexLock lock(mutex_);
  link_ = *link;
  return link;
}

std::shared_ptr<link::Link> PeerImpl::current_link() const {
  const MutexLock lock(mutex_);
  return link_;
}

void PeerImpl::submit(const std::shared_ptr<const transport::Plan>& plan, const std::shared_ptr<transport::TransferState>& transfer) {
  const std::shared_ptr<link::Link> link = track(transfer);
  Status checked = link ? Status::ok() : peer_closed();
  if (link && plan->bytes > 0) checked = check_time(transfer->deadline(), descriptor_);
  if (!checked.is_ok()) {
    transfer->finish(checked);
  } else if (!link->submit(plan, transfer)) {
    submit_anew(plan, transfer);
  }
}

// The first use of a peer whose link was retired.
void PeerImpl::submit_anew(const std::shared_ptr<const transport::Plan>& plan, const std::shared_ptr<transport::TransferState>& transfer) {
  const Result<std::shared_ptr<link::Link>> known = engine_->links().find(descriptor_);
  if (known.is_ok() && *known) {
    const MutexLock lock(mutex_);
    link_ = *known;
  }
  if (known.is_ok() && *known && (*known)->submit(plan, transfer)) return;
  link::WaitingFlight::start(engine_->links(), descriptor_, connect_deadline().sooner(transfer->deadline()), plan, transfer);
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
  Status checked = check();
  if (checked.is_ok()) checked = check_batch(batch);
  if (!checked.is_ok() || (timeout > std::chrono::nanoseconds::zero() && current_link()->copy_now(*batch.plan, *transfer))) {
    transfer->finish(checked);
  } else {
    submit(batch.plan, transfer);
  }
  return transfer;
}

PathInfo PeerImpl::path_over(const link::Link& link, transport::RemoteMemory memory) const {
  const link::Paths& paths = link.paths();
  const link::Candidate* chosen = paths.choose_now(memory);
  PathInfo info;
  if (chosen != nullptr) info.transport = control::kind_name(chosen->kind);
  info.refused = paths.refused(memory);
  const auto& absent = engine_->absent_transports();
  info.refused.insert(info.refused.end(), absent.begin(), absent.end());
  return info;
}

Result<PathInfo> PeerImpl::path(transport::RemoteMemory memory) {
  const Result<std::shared_ptr<link::Link>> used = link(connect_deadline());
  if (!used.is_ok()) return used.status();
  return path_over(**used, memory);
}

Result<PathInfo> PeerImpl::path(const Handle& handle) {
  const Deadline deadline = connect_deadline();
  const auto pending = std::make_shared<Pending<Result<transport::RemoteMemory>>>();
  const auto set = [pending](Result<transport::RemoteMemory> answer) { pending->set(std::move(answer)); };
  Result<std::shared_ptr<link::Link>> used = link(deadline);
  while (used.is_ok() && !(*used)->memory_of(handle, set)) used = link(deadline);  // again where it was retired just now
  if (!used.is_ok()) return used.status();
  auto answer = pending->wait(deadline);
  if (!answer) return Status(Code::kTransferTimeout, "no answer from the " + descriptor_.name() + " within connect_timeout_s");
  if (!answer->is_ok()) return answer->status();
  return path_over(**used, **answer);
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
  return path_between(*impl_, local, remote, [&] { return impl_->path(memory_between(local, remote)); });
}

Result<PathInfo> Peer::path(MemoryKind local, const RemoteRegion& remote) const {
  RAY_HIXL_RETURN_IF_ERROR(impl_->check());
  if (remote.owner != impl_->incarnation()) {
    return Status(Code::kInvalidRegion, "the region belongs to another engine than this peer, or to an earlier life of it");
  }
  if (!transport::is_host(memory_between(local, remote.kind))) return path(local, remote.kind);
  return path_between(*impl_, local, remote.kind, [&] { return impl_->path(remote.handle); });
}

void Peer::close() const { impl_->close(); }

}  // namespace ray_hixl
