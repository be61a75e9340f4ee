#include "hixl/endpoints.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace fake_hixl {
namespace {

constexpr const char* kA2Names[] = {"Ascend910B1", "Ascend910B2", "Ascend910B3", "Ascend910B4", "Ascend910B2C", "Ascend910B4-1"};
constexpr const char* kA3Names[] = {"Ascend910_9391", "Ascend910_9381", "Ascend910_9392",
                                    "Ascend910_9382", "Ascend910_9372", "Ascend910_9362"};

// Best first.
constexpr const char* kWithinInstance[] = {"ub_ctp:device", "ub_ctp:host", "hccs:device", "uboe:device",
                                           "ub_rtp:device", "roce:device", "roce:host"};
constexpr const char* kBetweenInstances[] = {"uboe:device", "ub_rtp:device", "roce:device", "roce:host"};

bool has(const std::vector<std::string>& list, const char* wanted) { return std::ranges::find(list, wanted) != list.end(); }

bool is_on(const char* variable) {
  const char* text = std::getenv(variable);
  return text != nullptr && std::strcmp(text, "1") == 0;
}

std::vector<std::string> generate(Soc soc) {
  if (soc == Soc::k950) return {"ub_ctp:device"};
  if (is_on("HCCL_INTRA_ROCE_ENABLE")) return {"roce:device"};
  return {"hccs:device", "roce:device"};
}

// On A2 the address in the engine's name tells machines apart: those that use one address, such as loopback, pass for one machine.
std::string instance_of(Soc soc, const std::string& ip) { return soc == Soc::kA2 || soc == Soc::kOther ? ip : "the super-pod"; }

}  // namespace

Soc soc_of(const std::string& name) {
  if (name.find("Ascend950") != std::string::npos) return Soc::k950;
  if (std::ranges::find(kA2Names, name) != std::end(kA2Names)) return Soc::kA2;
  return std::ranges::find(kA3Names, name) != std::end(kA3Names) ? Soc::kA3 : Soc::kOther;
}

bool needs_device_ip(Soc soc, const CommRes& given, const std::vector<std::string>& wanted) {
  return soc != Soc::k950 && given.endpoints.empty() && (wanted.empty() || has(wanted, "roce:device"));
}

Status find_endpoints(Soc soc, const CommRes& given, const std::vector<std::string>& wanted, const std::string& ip, Endpoints& endpoints) {
  endpoints.net_instance = given.net_instance.empty() ? instance_of(soc, ip) : given.net_instance;
  endpoints.protocols = given.endpoints.empty() ? generate(soc) : given.endpoints;
  if (!given.endpoints.empty() && is_on("HCCL_INTRA_ROCE_ENABLE")) {
    std::erase_if(endpoints.protocols, [](const std::string& protocol) { return !protocol.starts_with("roce:"); });
    if (endpoints.protocols.empty())
      return fail(hixl::kParamInvalid, "LocalCommRes has no RoCE, and HCCL_INTRA_ROCE_ENABLE=1 leaves no other");
  }
  if (wanted.empty()) return hixl::kSuccess;
  std::erase_if(endpoints.protocols, [&](const std::string& protocol) { return !has(wanted, protocol.c_str()); });
  return endpoints.protocols.empty() ? fail(hixl::kParamInvalid, "no endpoint is left by comm_resource_config.protocol_desc")
                                     : hixl::kSuccess;
}

std::string match_endpoints(const Endpoints& local, const Endpoints& remote) {
  const auto fits = [&](const char* protocol) { return has(local.protocols, protocol) && has(remote.protocols, protocol); };
  if (local.net_instance == remote.net_instance) {
    const auto* const best = std::ranges::find_if(kWithinInstance, fits);
    return best == std::end(kWithinInstance) ? "" : *best;
  }
  const auto* const best = std::ranges::find_if(kBetweenInstances, fits);
  return best == std::end(kBetweenInstances) ? "" : *best;
}

bool accepts_memory(const Endpoints& endpoints, hixl::MemType kind, Soc soc) {
  return std::ranges::any_of(endpoints.protocols, [&](const std::string& protocol) { return reaches_memory(protocol, kind, false, soc); });
}

bool reaches_memory(const std::string& protocol, hixl::MemType kind, bool is_remote, Soc soc) {
  if (protocol != "hccs:device" || kind == hixl::kMemDevice) return true;
  return !is_remote && soc == Soc::kA3;
}

}  // namespace fake_hixl
