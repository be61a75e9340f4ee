// LocalCommRes. A list of endpoints counts only together with the instance they are in; without one they are found out.
#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

#include "hixl/endpoints.h"
#include "hixl/json.h"

namespace fake_hixl {
namespace {

constexpr const char* kEndpoints[] = {"roce:device",   "roce:host",   "hccs:device",   "hccs:host",
                                      "ub_ctp:device", "ub_ctp:host", "ub_rtp:device", "uboe:device"};
constexpr std::size_t kMostOfDeviceNumber = 10;
constexpr std::size_t kEidDigits = 32;

bool is_ip(const std::string& text) {
  in6_addr address;
  return ::inet_pton(AF_INET, text.c_str(), &address) == 1 || ::inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

bool consists_of(const std::string& text, int (*kind)(int)) {
  return std::ranges::all_of(text, [kind](unsigned char letter) { return kind(letter) != 0; });
}

// How the other end finds it: RoCE and UBoE by an address, HCCS by a device's number, the rest by an EID.
bool is_comm_id(const std::string& protocol, const std::string& id) {
  if (protocol == "roce" || protocol == "uboe") return is_ip(id);
  if (protocol == "hccs") return !id.empty() && id.size() <= kMostOfDeviceNumber && consists_of(id, std::isdigit);
  return id.size() == kEidDigits && consists_of(id, std::isxdigit);
}

bool read_endpoint(const Json& item, CommRes& res) {
  const std::string protocol = item.member_text("protocol");
  const std::string name = protocol + ":" + item.member_text("placement");
  res.endpoints.push_back(name);
  return std::ranges::find(kEndpoints, name) != std::end(kEndpoints) && is_comm_id(protocol, item.member_text("comm_id"));
}

}  // namespace

std::optional<CommRes> parse_comm_res(const std::string& json) {
  const auto parsed = parse_json(json);
  if (!parsed || parsed->type != Json::Type::kObject) return std::nullopt;
  CommRes res;
  res.is_1_3 = parsed->member_text("version") == "1.3";
  res.net_instance = parsed->member_text("net_instance_id");
  const auto list = parsed->members.find("endpoint_list");
  if (list == parsed->members.end() || !parsed->members.contains("net_instance_id")) return res;
  for (const Json& item : list->second.items) {
    if (!read_endpoint(item, res)) return std::nullopt;
  }
  const auto has = [&](const char* name) { return std::ranges::find(res.endpoints, name) != res.endpoints.end(); };
  return has("ub_rtp:device") && has("uboe:device") ? std::nullopt : std::optional(res);
}

}  // namespace fake_hixl
