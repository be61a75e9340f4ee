// The transfers of an engine.
#include "hixl/engine.h"

namespace fake_hixl {
namespace {

using hixl::kFailed;
using hixl::kParamInvalid;
using hixl::kSuccess;
using hixl::TransferStatus;

constexpr int kAutoConnectTimeoutMs = 3000;  // of transfers that have no time-out of their own

}  // namespace

Status Engine::with_link(const std::string& remote, int timeout_ms, const std::function<Status(const std::shared_ptr<Link>&)>& use) {
  auto link = find(remote);
  if (link == nullptr && options_.auto_connect) {
    const Status status = connect(remote, timeout_ms);
    if (status != kSuccess && status != hixl::kAlreadyConnected) return status;
    link = find(remote);
  }
  if (link == nullptr) return fail(hixl::kNotConnected, remote + " is not connected");
  const std::lock_guard lock(link->mutex());
  if (!link->is_connected()) return fail(hixl::kNotConnected, remote + " is not connected");
  const Status status = use(link);
  if (status != kSuccess && options_.auto_connect) (void)close(link);
  return status;
}

Status Engine::transfer(const std::string& remote, hixl::TransferOp op, const std::vector<hixl::TransferOpDesc>& descriptors,
                        int timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  return with_link(remote, timeout_ms, [&](const auto& link) { return link->run(op, descriptors, deadline); });
}

Status Engine::start(const std::string& remote, hixl::TransferOp op, const std::vector<hixl::TransferOpDesc>& descriptors, void* user_data,
                     hixl::TransferReq& handle) {
  return with_link(remote, kAutoConnectTimeoutMs, [&](const auto& link) {
    std::shared_ptr<Request> request;
    const Status status = link->start(op, descriptors, user_data, request);
    if (status == kSuccess) handle = requests_.add(std::move(request), link);
    return status;
  });
}

Status Engine::poll(hixl::TransferReq handle, TransferStatus& status) {
  status = TransferStatus::FAILED;
  const auto before = requests_.find(handle);
  if (!before) return fail(kParamInvalid, "a poll of a request that is not known: it ended, or its link was disconnected");
  const std::lock_guard lock(before->link->mutex());
  const auto entry = requests_.find(handle);  // while we waited its end may have been seen, and its handle given to another
  if (!entry || entry->request != before->request) return fail(kParamInvalid, "a poll of a request that ended");
  if (entry->is_orphan) {
    requests_.remove(handle);
    return fail(hixl::kNotConnected, "a poll of a request whose link was disconnected");
  }
  return see_end(handle, *entry, status);
}

// REQUIRES: the link's mutex is held.
Status Engine::see_end(hixl::TransferReq handle, const RequestTable::Entry& entry, TransferStatus& status) {
  const Request::State state = entry.request->state();
  if (state == Request::State::kWaiting) {
    status = TransferStatus::WAITING;
    return kSuccess;
  }
  requests_.remove(handle);
  entry.link->retire(*entry.request);
  if (state == Request::State::kCompleted) {
    status = TransferStatus::COMPLETED;
    return kSuccess;
  }
  if (options_.auto_connect) (void)close(entry.link);
  const Status code = entry.request->code();
  (void)fail(code, "the transfer failed");
  return code;
}

Status Engine::poll_all(const hixl::GetTransferStatusArgs& args, std::vector<hixl::TransferResult>& results) {
  if (!self_.rules.polls_batches) return fail(hixl::kUnsupported, "GetTransferStatus of many is not supported by this engine");
  results.clear();
  // Those of a link that AutoConnect drops on the way are known as failed.
  std::vector<std::pair<hixl::TransferReq, void*>> asked;
  for (const hixl::TransferReq handle : requests_.handles()) {
    if (const auto entry = requests_.find(handle)) asked.emplace_back(handle, entry->request->user_data());
  }
  for (const auto& [handle, user_data] : asked) {
    if (results.size() >= args.max_query_count) break;
    hixl::TransferResult result;
    result.req = handle;
    result.user_data = user_data;
    (void)poll(handle, result.status);
    if (result.status != TransferStatus::WAITING || !args.skip_waiting) results.push_back(result);
  }
  return kSuccess;
}

}  // namespace fake_hixl
