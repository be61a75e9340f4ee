#include "transport/hixl/cann/settings.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string_view>
#include <utility>
#include <vector>

#include "base/option_rules.h"

namespace ray_hixl::transport::hixl {
namespace {

constexpr const char* kAuto = "auto";
constexpr const char* kFoundByHixl = R"({"version":"1.3"})";  // all of it but what says that the engine is the client-server one
constexpr std::size_t kMostOfFile = std::size_t{1} << 20;

// Of "ip:port" or "[ip]:port".
std::string_view host_of(std::string_view engine) {
  const std::string_view host = engine.substr(0, engine.rfind(':'));
  return host.starts_with('[') && host.ends_with(']') ? host.substr(1, host.size() - 2) : host;
}

bool is_auto(const std::vector<std::string>& protocols) { return protocols.size() == 1 && protocols.front() == kAuto; }

Result<std::string> read_comm_res(const std::string& path) {
  std::string text(kMostOfFile + 1, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() <= kMostOfFile && options::is_comm_res(text)) return text;
  return Status(Code::kInvalidArgument,
                "option hixl_local_comm_res: " + path +
                    (text.empty() ? " cannot be read, or is empty" : " holds no JSON of version 1.3, or more than 1 MiB"));
}

// ["hccs:device","roce:device"]
std::string json_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "[\"" : ",\"") + name + "\"";
  return text + "]";
}

}  // namespace

bool roce_is_forced() {
  const char* const text = std::getenv("HCCL_INTRA_ROCE_ENABLE");
  return text != nullptr && std::string_view(text) == "1";
}

Result<Settings> Settings::of(const Cann& cann, const Options& options) {
  Settings made(cann, options);
  const std::string& comm_res = options.hixl_local_comm_res;
  if (!cann.client_server && (comm_res != kAuto || !is_auto(options.hixl_protocol_desc))) {
    return Status(Code::kNotAvailable,
                  "hixl_protocol_desc and hixl_local_comm_res need HIXL's client-server engine, which came with CANN 9.1; " +
                      cann.api.path + " is of " + cann.api.version);
  }
  made.comm_res_ = comm_res == kAuto ? kFoundByHixl : comm_res;
  if (!comm_res.starts_with('/')) return made;
  Result<std::string> read = read_comm_res(comm_res);
  if (!read.is_ok()) return read.status();
  made.comm_res_ = *std::move(read);
  return made;
}

HixlOptions Settings::with(const Ports& ports) const {
  HixlOptions made;
  made.emplace(Text("BufferPool"), Text("0:0"));  // no copies by way of staging buffers
  if (options_.hixl_traffic_class) made.emplace(Text("RdmaTrafficClass"), Text(std::to_string(*options_.hixl_traffic_class)));
  if (options_.hixl_service_level) made.emplace(Text("RdmaServiceLevel"), Text(std::to_string(*options_.hixl_service_level)));
  if (!client_server_) return made;
  made.emplace(Text("LocalCommRes"), Text(comm_res_));
  made.emplace(Text("AutoConnect"), Text("0"));  // it would strand every request of a link with one refused
  std::string resources = R"({"comm_resource_config.listen_port":)" + std::to_string(ports.device) +
                          R"(,"comm_resource_config.max_active_channels":)" + std::to_string(options_.hixl_max_active_channels);
  if (!is_auto(options_.hixl_protocol_desc))
    resources += R"(,"comm_resource_config.protocol_desc":)" + json_of(options_.hixl_protocol_desc);
  made.emplace(Text("GlobalResourceConfig"), Text(resources + "}"));
  return made;
}

bool Settings::prefer_hccs() const {
  if (!client_server_ || !has_hccs_ || roce_is_forced()) return false;
  const std::vector<std::string>& protocols = options_.hixl_protocol_desc;
  if (!is_auto(protocols) && std::ranges::find(protocols, "hccs:device") == protocols.end()) return false;
  const auto names = [this](std::string_view word) { return comm_res_.find(word) != std::string::npos; };
  return !names("\"endpoint_list\"") || names("\"hccs\"");
}

// Of two servers A2 takes RoCE; it tells them apart by the address of the engines, where nothing else is said: one server with two
// addresses is two to it, too.
Status Settings::reach_host_memory(bool there, std::string_view peer) const {
  const bool is_another_server = !is_a3_ && comm_res_ == kFoundByHixl && host_of(peer) != options_.host;
  if (!prefer_hccs() || is_another_server || (is_a3_ && !there)) return Status::ok();
  return Status(Code::kNotAvailable, std::string("HIXL takes HCCS there, which reaches no host memory") + (is_a3_ ? " of a peer" : "") +
                                         ". RoCE does: HCCL_INTRA_ROCE_ENABLE=1 in every process");
}

}  // namespace ray_hixl::transport::hixl
