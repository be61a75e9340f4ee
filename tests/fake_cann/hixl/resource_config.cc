// GlobalResourceConfig: one flat JSON object with dotted names. A name that is not known is refused, which also finds nested objects; what
// the real library does with it is not known.
#include <algorithm>
#include <functional>

#include "hixl/json.h"
#include "hixl/options.h"

namespace fake_hixl {
namespace {

constexpr const char* kProtocols[] = {"roce:device",   "hccs:device", "ub_ctp:device", "uboe:device",
                                      "ub_rtp:device", "roce:host",   "ub_ctp:host"};

using Reader = std::function<bool(const Json&, ResourceConfig&)>;

Reader number(long least, long most, long ResourceConfig::*field) {
  return [=](const Json& value, ResourceConfig& config) {
    const auto read = value.number();
    if (!read || *read < least || *read > most) return false;
    if (field != nullptr) config.*field = *read;
    return true;
  };
}

bool read_bool(const Json& value, ResourceConfig&) { return value.type == Json::Type::kBool; }

bool read_waterline(const Json& value, ResourceConfig& config) {
  config.has_waterlines = true;
  const double level = value.type == Json::Type::kNumber || value.type == Json::Type::kText ? std::atof(value.text.c_str()) : 0;
  return level > 0 && level < 1;
}

bool read_path(const Json& value, ResourceConfig& config) {
  config.comm_res_path = value.text;
  return value.type == Json::Type::kText && !value.text.empty();
}

bool read_protocols(const Json& value, ResourceConfig& config) {
  if (value.type == Json::Type::kText) config.protocol_desc = {value.text};
  for (const Json& item : value.items) config.protocol_desc.push_back(item.text);
  const auto has = [&](const char* name) { return std::ranges::find(config.protocol_desc, name) != config.protocol_desc.end(); };
  const bool known = std::ranges::all_of(
      config.protocol_desc, [](const std::string& name) { return std::ranges::find(kProtocols, name) != std::end(kProtocols); });
  const bool is_list = value.type == Json::Type::kText || value.type == Json::Type::kList;
  return is_list && known && !(has("uboe:device") && has("ub_rtp:device"));
}

std::map<std::string, Reader> readers(Flavour flavour) {
  constexpr long kMostChannels = 512;
  constexpr long kMostSlots = 8192;
  std::map<std::string, Reader> known = {
      {"fabric_memory.max_capacity", number(1, 1024, nullptr)},
      {"fabric_memory.start_address", number(0, 1024, nullptr)},
      {"fabric_memory.task_stream_num", number(1, 8, nullptr)},
      {"connect_pool.thread_num", number(1, 64, &ResourceConfig::connect_threads)},
      {"connect_pool.task_queue_capacity", number(1, 65535, &ResourceConfig::connect_queue)},
      {"comm_resource_config.protocol_desc", read_protocols},
      {"comm_resource_config.listen_port", number(1, 65535, &ResourceConfig::listen_port)},
      {"comm_resource_config.qos", number(0, 7, nullptr)},
      {"comm_resource_config.max_active_channels", number(1, kMostSlots, &ResourceConfig::max_active_channels)},
      {"channel_pool.max_channel", number(1, kMostChannels, &ResourceConfig::max_channel)},
      {"channel_pool.high_waterline", read_waterline},
      {"channel_pool.low_waterline", read_waterline},
  };
  if (flavour == Flavour::k92) {
    known["fabric_memory.enable_aicpu_unfold"] = read_bool;
    known["local_comm_res_path"] = read_path;
  }
  return known;
}

}  // namespace

Status parse_resource_config(const std::string& json, Flavour flavour, ResourceConfig& config) {
  if (json.empty()) return hixl::kSuccess;
  const auto parsed = parse_json(json);
  if (!parsed || parsed->type != Json::Type::kObject) return fail(hixl::kParamInvalid, "GlobalResourceConfig is no JSON object");
  const auto known = readers(flavour);
  for (const auto& [name, value] : parsed->members) {
    const auto reader = known.find(name);
    if (reader == known.end()) return fail(hixl::kParamInvalid, "GlobalResourceConfig: " + name + " is not known");
    if (!reader->second(value, config)) return fail(hixl::kParamInvalid, "GlobalResourceConfig: bad value of " + name);
  }
  if (parsed->members.contains("channel_pool.high_waterline") != parsed->members.contains("channel_pool.low_waterline")) {
    return fail(hixl::kParamInvalid, "GlobalResourceConfig: one waterline without the other");
  }
  return hixl::kSuccess;
}

}  // namespace fake_hixl
