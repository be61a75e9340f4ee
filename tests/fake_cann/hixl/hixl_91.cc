// The methods of hixl::Hixl that came with 9.1. The 8.5 library does not export them.
#include "hixl/counters.h"
#include "hixl/handle.h"

using fake_hixl::Call;
using fake_hixl::fail;
using fake_hixl::Flavour;
using fake_hixl::NeedsContext;

namespace hixl {

// Also before Initialize.
Status Hixl::GetCapability(FeatureType feature, std::int32_t& value) {
  fake_hixl::count_call("GetCapability");
  value = 0;
  if (static_cast<int>(feature) < 0) return fail(kParamInvalid, "GetCapability of a negative feature");
  if (feature == FeatureType::kAutoConnect || feature == FeatureType::kClientServerComm) {
    value = 1;
    return kSuccess;
  }
  return fake_hixl::flavour() == Flavour::k92 ? kSuccess : fail(kUnsupported, "GetCapability of an unknown feature");
}

Status Hixl::ConnectAsync(const AscendString& remote_engine, std::int32_t timeout_in_millis) {
  const Call call(*handle_, "ConnectAsync", NeedsContext::kYes);
  if (call.engine() == nullptr) return call.not_initialised();
  if (timeout_in_millis <= 0) return fail(kParamInvalid, "a time-out of 0 or less");
  return call.engine()->connect_pool().connect(remote_engine.GetString(), timeout_in_millis);
}

Status Hixl::DisconnectAsync(const AscendString& remote_engine, std::int32_t timeout_in_millis) {
  const Call call(*handle_, "DisconnectAsync", NeedsContext::kNo);
  if (call.engine() == nullptr) return call.not_initialised();
  if (timeout_in_millis <= 0) return fail(kParamInvalid, "a time-out of 0 or less");
  return call.engine()->connect_pool().disconnect(remote_engine.GetString());
}

Status Hixl::GetAsyncConnectStatus(const AscendString& remote_engine, AsyncConnectStatus& status) {
  const Call call(*handle_, "GetAsyncConnectStatus", NeedsContext::kNo);
  if (call.engine() == nullptr) return call.not_initialised();
  status = call.engine()->connect_pool().status(remote_engine.GetString());
  return kSuccess;
}

Status Hixl::GetAsyncConnectStatus(std::map<AscendString, AsyncConnectStatus>& statuses) {
  const Call call(*handle_, "GetAsyncConnectStatusAll", NeedsContext::kNo);
  if (call.engine() == nullptr) return call.not_initialised();
  statuses.clear();
  for (const auto& [remote, status] : call.engine()->connect_pool().statuses()) statuses[remote.c_str()] = status;
  return kSuccess;
}

Status Hixl::GetTransferStatus(const GetTransferStatusArgs& args, std::vector<TransferResult>& results) {
  const Call call(*handle_, "GetTransferStatusBatch", NeedsContext::kYes);
  return call.engine() == nullptr ? call.not_initialised() : call.engine()->poll_all(args, results);
}

}  // namespace hixl
