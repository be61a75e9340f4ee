#include "transport/hixl/cann/codes.h"

namespace ray_hixl::transport::hixl {

bool is_out_of_memory(std::uint32_t error) { return error == 207001 || error == 207018 || error == 200000; }

Verdict judge(HixlCode code) {
  switch (code) {
    case kHixlOk: return Verdict::kFine;
    case kParamInvalid: return Verdict::kStale;
    case kResourceExhausted: return Verdict::kBusy;
    default: return is_out_of_memory(code) ? Verdict::kNoMemory : Verdict::kLinkBroken;
  }
}

std::string describe(HixlCode code) {
  const char* name = nullptr;
  switch (code) {
    case kHixlOk: name = "SUCCESS"; break;
    case kParamInvalid: name = "PARAM_INVALID"; break;
    case kTimeout: name = "TIMEOUT"; break;
    case kNotConnected: name = "NOT_CONNECTED"; break;
    case kAlreadyConnected: name = "ALREADY_CONNECTED"; break;
    case kUnsupported: name = "UNSUPPORTED"; break;
    case kResourceExhausted: name = "RESOURCE_EXHAUSTED"; break;
    case kFailed: name = "FAILED"; break;
    default: return "error " + std::to_string(code);
  }
  return std::string(name) + " (" + std::to_string(code) + ")";
}

}  // namespace ray_hixl::transport::hixl
