#include "transport/hixl/cann/start.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "transport/hixl/cann/cause.h"
#include "transport/hixl/cann/ports.h"
#include "transport/hixl/cann/settings.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr int kTries = 4;                        // each that fails keeps slots of the device until the process ends
constexpr std::string_view kVersion = " HIXL ";  // what comes before it in a fingerprint

std::string variable(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? "" : text;
}

std::string engine_name(const std::string& host, std::uint16_t port) {
  const bool is_v6 = host.find(':') != std::string::npos;
  return (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

// Can the next try end otherwise? A cause that nobody named may be a port of the device's NIC, which cannot be looked at.
bool is_worth_another_try(Cause cause, const Outcome& outcome) {
  return cause == Cause::kPort || (cause == Cause::kUnknown && outcome.code == kFailed);
}

std::string hint(Cause cause, const Cann& cann, const Options& options, const Outcome& outcome) {
  std::string text;
  if (outcome.code == kParamInvalid) {
    text += "; whoever uses HIXL in this process needs the same hixl_max_active_channels (" +
            std::to_string(options.hixl_max_active_channels) +
            "), and what hixl_protocol_desc and hixl_local_comm_res name has to be there";
  }
  if (is_worth_another_try(cause, outcome)) {
    text += cann.client_server
                ? "; if ports are taken, widen or move hixl_ports"
                : "; below CANN 9.1 all processes share port 16666 of the device's NIC, also with HCCL: give each an NPU, or "
                  "take CANN 9.1";
  }
  if (cause == Cause::kNoDeviceIp)
    text +=
        "; the device's NIC needs an address: hccn_tool -i N -ip -s address A netmask M. Where HCCS alone is enough, "
        "hixl_protocol_desc=hccs:device in every process needs none";
  const bool may_lack_addresses = cause == Cause::kNoDeviceIp || cause == Cause::kUnknown;
  if (may_lack_addresses && !cann.soc.starts_with("Ascend950") && ::access("/etc/hccn.conf", R_OK) != 0) {
    text += "; /etc/hccn.conf, which has the addresses of the devices' NICs, cannot be read: mount it into the container";
  }
  if (cause == Cause::kKernels) text += "; HIXL's part for the device comes with CANN's toolkit, and is found by ASCEND_HOME_PATH";
  if ((cause == Cause::kKernels || cause == Cause::kUnknown) && variable("ASCEND_HOME_PATH").empty()) {
    text += "; ASCEND_HOME_PATH is not set: source CANN's set_env.sh";
  }
  if (cause == Cause::kResources) {
    text += "; the NPU has too little memory, or too few streams or queues left: fewer processes on it (npu-smi info), or less for torch";
  }
  return text + ". ray-hixl doctor --npu looks further";
}

}  // namespace

std::string fingerprint(const Cann& cann, const Options& options) {
  std::vector<std::string> protocols = options.hixl_protocol_desc;
  std::ranges::sort(protocols);
  std::string told;
  for (const std::string& protocol : protocols) told += (told.empty() ? " hixl_protocol_desc=" : ",") + protocol;
  return std::string(cann.client_server ? "hixl_cs" : "comm") + " HCCL_INTRA_ROCE_ENABLE=" + (roce_is_forced() ? "1" : "0") +
         (told.ends_with("=auto") ? "" : told) + std::string(kVersion) + cann.api.version;
}

bool agree(std::string_view fingerprint, std::string_view other) {
  const auto version_at = [](std::string_view text) { return std::min(text.find(kVersion), text.size()); };
  const std::size_t at = version_at(fingerprint);
  if (fingerprint.substr(0, at) != other.substr(0, version_at(other))) return false;
  const auto is_unknown = [](std::string_view text) { return text.ends_with(kUnknownVersion); };
  return fingerprint == other || is_unknown(fingerprint) || is_unknown(other);
}

bool listens_late(const Cann& cann) {
  const std::string_view version = cann.api.version;
  return cann.client_server && (version == kUnknownVersion || version.find("9.1.") != std::string_view::npos);
}

Result<Started> start(const Cann& cann, const Options& options) {
  std::string tried;
  const Result<Settings> settings = Settings::of(cann, options);
  if (!settings.is_ok()) return settings.status();
  Outcome outcome;  // of the last one: all of them say much the same
  Cause cause = Cause::kPort;
  for (int attempt = 0; attempt < kTries && is_worth_another_try(cause, outcome); ++attempt) {
    const std::optional<Ports> ports = draw_ports(options.host, options.hixl_ports);
    if (!ports) {
      return Status(Code::kNotAvailable, "HIXL does not start: no port of " + options.host + " in hixl_ports " +
                                             std::to_string(options.hixl_ports.first) + "-" + std::to_string(options.hixl_ports.last) +
                                             " is free; widen or move hixl_ports");
    }
    Started started{std::make_unique<Hixl>(cann.api, cann.acl), engine_name(options.host, ports->host)};
    (void)cann.acl.recent_error();  // of what came before
    outcome = started.hixl->initialize(started.name, settings->with(*ports));
    if (outcome.is_ok()) return started;
    tried += (tried.empty() ? "" : ", ") + started.name + " (NIC port " + std::to_string(ports->device) + ")";
    started.hixl.reset();
    cause = is_taken(options.host, ports->host) ? Cause::kPort : cause_of(outcome);
  }
  return Status(Code::kNotAvailable,
                "HIXL does not start: " + outcome.text() + "; tried at " + tried + hint(cause, cann, options, outcome));
}

}  // namespace ray_hixl::transport::hixl
