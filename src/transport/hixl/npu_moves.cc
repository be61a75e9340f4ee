// Moves within this process: the runtime copies, since HIXL does not link an engine to its own process's.
#include <algorithm>
#include <utility>

#include "transport/hixl/npu.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr std::size_t kPart = std::size_t{16} << 20;

}  // namespace

Status Npu::enable_peer(std::int32_t peer) {
  if (peer == index() || cann_.acl.enable_peer_access == nullptr) return Status::ok();
  std::int32_t can = 1;
  if (cann_.acl.can_access_peer != nullptr) (void)cann_.acl.can_access_peer(&can, index(), peer);
  if (can == 0) {
    return Status(Code::kNotAvailable, npu_name(peer) + " and " + npu_name(index()) +
                                           " of this process cannot reach each other's memory; go through the CPU (tensor.cpu())");
  }
  (void)cann_.acl.enable_peer_access(peer, 0);  // an error shows in the copy, a second time is none
  return Status::ok();
}

void Npu::move(std::shared_ptr<Move> move, std::int32_t from_device) {
  const bool posted = driver_.post([self = shared_from_this(), move, from_device] {
    if (const Status reachable = self->enable_peer(from_device); !reachable.is_ok()) return move->end(reachable);
    self->move_part(move, 0, 0);
  });
  if (!posted) move->end(Status(Code::kClosed, "the engine was closed"));
}

void Npu::move_part(const std::shared_ptr<Move>& move, std::size_t op, std::size_t offset) {
  if (move->transfer->stopping()) return move->end(move->transfer->stop_reason());
  std::size_t budget = kPart;
  while (op < move->ops.size() && budget > 0) {
    const OpDesc& desc = move->ops[op];
    const std::size_t bytes = std::min(budget, desc.length - offset);
    const int error = cann_.acl.memcpy(reinterpret_cast<void*>(desc.local + offset), bytes,
                                       reinterpret_cast<const void*>(desc.remote + offset), bytes, kAclDeviceToDevice);
    if (error != kAclOk) return move->end(cann_.acl.status(error, "copying to " + npu_name(index()) + " (aclrtMemcpy)"));
    budget -= bytes;
    offset += bytes;
    if (offset < desc.length) break;
    offset = 0;
    ++op;
  }
  if (op == move->ops.size()) return move->end(Status::ok());
  const bool posted = driver_.post([self = shared_from_this(), move, op, offset] { self->move_part(move, op, offset); });
  if (!posted) move->end(Status(Code::kClosed, "the engine was closed"));
}

}  // namespace ray_hixl::transport::hixl
