#include "transport/hixl/cann/start.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/random.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr int kTries = 16;
constexpr std::string_view kVersion = " HIXL ";  // what comes before it in a fingerprint
constexpr int kActiveChannels = 16;              // each takes two of the device's streams; one value for all engines of a process

std::string variable(const char* name) {
  const char* const text = std::getenv(name);
  return text == nullptr ? "" : text;
}

struct Ports {
  std::uint16_t host = 0;    // of the TCP listener
  std::uint16_t device = 0;  // of the listener on the device's own NIC
};

// Two different ones of the range.
Ports draw_ports(const PortRange& range) {
  std::uint32_t random[2];
  fill_random(std::as_writable_bytes(std::span(random)));
  const std::uint32_t count = std::uint32_t{range.last} - range.first + 1;
  const std::uint32_t host = random[0] % count;
  const std::uint32_t device = (host + 1 + random[1] % (count - 1)) % count;
  return {static_cast<std::uint16_t>(range.first + host), static_cast<std::uint16_t>(range.first + device)};
}

HixlOptions make_options(bool client_server, const Ports& ports) {
  HixlOptions options;
  options.emplace(Text("BufferPool"), Text("0:0"));  // no copies by way of staging buffers
  if (!client_server) return options;
  options.emplace(Text("LocalCommRes"), Text(R"({"version":"1.3"})"));
  options.emplace(Text("AutoConnect"), Text("0"));  // it would strand every request of a link with one refused
  options.emplace(Text("GlobalResourceConfig"),
                  Text(R"({"comm_resource_config.listen_port":)" + std::to_string(ports.device) +
                       R"(,"comm_resource_config.max_active_channels":)" + std::to_string(kActiveChannels) + "}"));
  return options;
}

std::string engine_name(const std::string& host, std::uint16_t port) {
  const bool is_v6 = host.find(':') != std::string::npos;
  return (is_v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

// What is often missing where HIXL does not start.
std::string advice(const Cann& cann) {
  std::string text;
  if (!cann.soc.starts_with("Ascend950") && ::access("/etc/hccn.conf", R_OK) != 0) {
    text += "; /etc/hccn.conf, which has the addresses of the devices' NICs, cannot be read: mount it into the container";
  }
  if (variable("ASCEND_HOME_PATH").empty()) text += "; ASCEND_HOME_PATH is not set: source CANN's set_env.sh";
  return text + ". ray-hixl doctor --npu looks further";
}

}  // namespace

std::string fingerprint(const Cann& cann) {
  const bool roce = variable("HCCL_INTRA_ROCE_ENABLE") == "1";  // anything else is no
  return std::string(cann.client_server ? "hixl_cs" : "comm") + " HCCL_INTRA_ROCE_ENABLE=" + (roce ? "1" : "0") + std::string(kVersion) +
         cann.api.version;
}

bool agree(std::string_view fingerprint, std::string_view other) {
  const auto version_at = [](std::string_view text) { return std::min(text.find(kVersion), text.size()); };
  const std::size_t at = version_at(fingerprint);
  if (fingerprint.substr(0, at) != other.substr(0, version_at(other))) return false;
  const auto is_unknown = [](std::string_view text) { return text.ends_with(kUnknownVersion); };
  return fingerprint == other || is_unknown(fingerprint) || is_unknown(other);
}

Result<Started> start(const Cann& cann, const Options& options) {
  std::string tried;
  std::string why;  // of the last one: all of them say much the same
  bool may_be_ports = true;
  for (int attempt = 0; attempt < kTries && may_be_ports; ++attempt) {
    const Ports ports = draw_ports(options.hixl_ports);
    Started started{std::make_unique<Hixl>(cann.api, cann.acl), engine_name(options.host, ports.host)};
    const Outcome outcome = started.hixl->initialize(started.name, make_options(cann.client_server, ports));
    if (outcome.is_ok()) return started;
    tried += (tried.empty() ? "" : ", ") + started.name + " (NIC port " + std::to_string(ports.device) + ")";
    why = outcome.text();
    may_be_ports = outcome.code == kFailed;
  }
  const std::string ports = may_be_ports ? "; if ports are taken, widen or move hixl_ports" : "";
  return Status(Code::kNotAvailable, "HIXL does not start: " + why + "; tried at " + tried + ports + advice(cann));
}

}  // namespace ray_hixl::transport::hixl
