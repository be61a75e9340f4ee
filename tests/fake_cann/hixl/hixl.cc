// class hixl::Hixl: what is checked before anything else, and then the engine. Methods that came with 9.1 are in hixl_91.cc.
#include <algorithm>
#include <utility>

#include "hixl/engines.h"
#include "hixl/handle.h"
#include "runtime/acl.h"

using fake_hixl::Call;
using fake_hixl::ExclusiveCall;
using fake_hixl::fail;
using fake_hixl::NeedsContext;

namespace hixl {
namespace {

constexpr Status kNoContext = 107002;  // of the runtime: such codes come through as they are
constexpr std::size_t kMostOfNotify = 1024;

Status check_transfer(TransferOp op, const std::vector<TransferOpDesc>& descriptors) {
  if (op != kRead && op != kWrite) return fail(kParamInvalid, "a transfer that is neither READ nor WRITE");
  if (descriptors.empty()) return fail(kParamInvalid, "a transfer without descriptors");
  const auto is_null = [](const TransferOpDesc& descriptor) { return descriptor.local_addr == 0 || descriptor.remote_addr == 0; };
  return std::ranges::any_of(descriptors, is_null) ? fail(kParamInvalid, "a null address") : kSuccess;
}

Status check_timeout(std::int32_t timeout_ms) { return timeout_ms > 0 ? kSuccess : fail(kParamInvalid, "a time-out of 0 or less"); }

}  // namespace

Hixl::Hixl() : handle_(new Handle) {}

Hixl::~Hixl() {
  Finalize();
  delete handle_;
}

// Twice on one object: the first engine stays behind, with its port and its memory, and nobody can reach it any more.
Status Hixl::Initialize(const AscendString& local_engine, const std::map<AscendString, AscendString>& options) {
  const ExclusiveCall call(*handle_, "Initialize");
  if (handle_->engine != nullptr) {
    fake_cann_forbid("FAKE HIXL: Initialize was called twice on one object");
    fake_hixl::abandon_engine(std::exchange(handle_->engine, nullptr));
  }
  if (fake_cann_current_device() < 0) {
    fake_cann_forbid("FAKE HIXL: Initialize was called by a thread without a context (aclrtSetDevice)");
    return fail(kNoContext, "Initialize: this thread has no context (aclrtSetDevice)");
  }
  fake_hixl::OptionMap given;
  for (const auto& [name, value] : options) given[name.GetString()] = value.GetString();
  std::shared_ptr<fake_hixl::Engine> engine;
  const Status status = fake_hixl::Engine::create(local_engine.GetString(), given, engine);
  const std::lock_guard lock(handle_->mutex);
  handle_->engine = std::move(engine);
  return status;
}

void Hixl::Finalize() {
  const ExclusiveCall call(*handle_, "Finalize");
  std::shared_ptr<fake_hixl::Engine> engine;
  {
    const std::lock_guard lock(handle_->mutex);
    engine = std::exchange(handle_->engine, nullptr);
  }
  if (engine != nullptr) engine->finalize();
}

Status Hixl::RegisterMem(const MemDesc& mem, MemType type, MemHandle& mem_handle) {
  const Call call(*handle_, "RegisterMem", NeedsContext::kYes);
  return call.engine() == nullptr ? call.not_initialised() : call.engine()->add_region(mem, type, mem_handle);
}

Status Hixl::DeregisterMem(MemHandle mem_handle) {
  const Call call(*handle_, "DeregisterMem", NeedsContext::kNo);
  if (call.engine() == nullptr) return call.not_initialised();
  if (mem_handle == nullptr) return fail(kParamInvalid, "DeregisterMem of a null handle");
  return call.engine()->remove_region(mem_handle);
}

Status Hixl::Connect(const AscendString& remote_engine, std::int32_t timeout_in_millis) {
  const Call call(*handle_, "Connect", NeedsContext::kYes);
  if (call.engine() == nullptr) return call.not_initialised();
  if (const Status status = check_timeout(timeout_in_millis); status != kSuccess) return status;
  return call.engine()->connect(remote_engine.GetString(), timeout_in_millis);
}

// HixlEngine is said to pass over the time-out; whether it takes 0 is not known.
Status Hixl::Disconnect(const AscendString& remote_engine, std::int32_t timeout_in_millis) {
  const Call call(*handle_, "Disconnect", NeedsContext::kNo);
  if (call.engine() == nullptr) return call.not_initialised();
  if (const Status status = check_timeout(timeout_in_millis); status != kSuccess) return status;
  return call.engine()->disconnect(remote_engine.GetString());
}

Status Hixl::TransferSync(const AscendString& remote_engine, TransferOp operation, const std::vector<TransferOpDesc>& op_descs,
                          std::int32_t timeout_in_millis) {
  const Call call(*handle_, "TransferSync", NeedsContext::kYes);
  if (call.engine() == nullptr) return call.not_initialised();
  if (const Status status = check_timeout(timeout_in_millis); status != kSuccess) return status;
  if (const Status status = check_transfer(operation, op_descs); status != kSuccess) return status;
  return call.engine()->transfer(remote_engine.GetString(), operation, op_descs, timeout_in_millis);
}

Status Hixl::TransferAsync(const AscendString& remote_engine, TransferOp operation, const std::vector<TransferOpDesc>& op_descs,
                           const TransferArgs& optional_args, TransferReq& req) {
  const Call call(*handle_, "TransferAsync", NeedsContext::kYes);
  if (call.engine() == nullptr) return call.not_initialised();
  if (const Status status = check_transfer(operation, op_descs); status != kSuccess) return status;
  return call.engine()->start(remote_engine.GetString(), operation, op_descs, optional_args.user_data, req);
}

Status Hixl::GetTransferStatus(const TransferReq& req, TransferStatus& status) {
  const Call call(*handle_, "GetTransferStatus", NeedsContext::kYes);
  status = TransferStatus::FAILED;
  if (call.engine() == nullptr) return call.not_initialised();
  if (req == nullptr) return fail(kFailed, "GetTransferStatus of a null request");
  return call.engine()->poll(req, status);
}

// Notify goes no further than its checks: the product does without it.
Status Hixl::SendNotify(const AscendString&, const NotifyDesc& notify, std::int32_t timeout_in_millis) {
  const Call call(*handle_, "SendNotify", NeedsContext::kYes);
  if (call.engine() == nullptr) return call.not_initialised();
  if (const Status status = check_timeout(timeout_in_millis); status != kSuccess) return status;
  if (std::max(notify.name.GetLength(), notify.notify_msg.GetLength()) > kMostOfNotify) return fail(kParamInvalid, "more than 1024 bytes");
  return fail(kUnsupported, "the fake does not model SendNotify");
}

Status Hixl::GetNotifies(std::vector<NotifyDesc>&) {
  const Call call(*handle_, "GetNotifies", NeedsContext::kYes);
  return call.engine() == nullptr ? call.not_initialised() : fail(kUnsupported, "the fake does not model GetNotifies");
}

}  // namespace hixl
