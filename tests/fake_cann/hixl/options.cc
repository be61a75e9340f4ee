#include "hixl/options.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "hixl/json.h"

namespace fake_hixl {
namespace {

using hixl::kParamInvalid;
using hixl::kSuccess;

constexpr std::uintmax_t kMostOfFile = 1 << 20;

constexpr const char* kNames[] = {"EnableUseFabricMem",   "RdmaTrafficClass", "RdmaServiceLevel", "BufferPool",
                                  "GlobalResourceConfig", "AutoConnect",      "LocalCommRes"};
constexpr const char* kAliased[] = {"RdmaTrafficClass", "RdmaServiceLevel", "BufferPool", "LocalCommRes"};

Status bad(const std::string& name, const std::string& why) { return fail(kParamInvalid, "option " + name + ": " + why); }

// Plain names win over the adxl. ones. 9.x knows what it knows; 8.5 passes over the rest.
Status normalise(const OptionMap& given, Flavour flavour, OptionMap& known) {
  known = given;
  for (const char* name : kAliased) {
    const auto alias = known.find(std::string("adxl.") + name);
    if (alias == known.end()) continue;
    known.emplace(name, alias->second);
    known.erase(alias);
  }
  for (const auto& [name, value] : known) {
    if (flavour != Flavour::k85 && std::ranges::find(kNames, name) == std::end(kNames)) return bad(name, "not known");
  }
  return kSuccess;
}

// What is not given, or empty, is what the variable says.
Status check_range(const OptionMap& known, const std::string& name, const char* variable, long most, long step) {
  const auto found = known.find(name);
  std::string value = found == known.end() ? "" : found->second;
  const char* text = std::getenv(variable);
  if (value.empty() && text != nullptr) value = text;
  if (value.empty()) return kSuccess;
  const auto number = parse_number(value);
  if (number && *number >= 0 && *number <= most && *number % step == 0) return kSuccess;
  return bad(name + " or " + variable, value + " is not one of its values");
}

Status check_buffer_pool(const OptionMap& known, const Options& options) {
  const auto found = known.find("BufferPool");
  const std::string pool = found == known.end() ? "" : found->second;
  if (pool == "0:0") return kSuccess;
  if (options.kind == Kind::kHixlEngine) return pool.empty() ? kSuccess : bad("BufferPool", pool + ", only 0:0 fits this engine");
  return fail(hixl::kUnsupported, "BufferPool is " + (pool.empty() ? "4:8 by default" : pool) +
                                      ": staging of unregistered memory is not modelled, set it to 0:0");
}

Status read_file(const std::string& path, std::string& text) {
  std::error_code failed;
  const auto size = std::filesystem::file_size(path, failed);
  if (failed || size == 0 || size > kMostOfFile) return bad("local_comm_res_path", "no file of 1 byte to 1 MiB: " + path);
  std::stringstream content;
  content << std::ifstream(path).rdbuf();
  text = content.str();
  return kSuccess;
}

// Which engine; reads LocalCommRes on the way.
Status choose_engine(const OptionMap& known, Flavour flavour, Options& options) {
  options.kind = Kind::kCommEngine;
  if (flavour == Flavour::k85) return kSuccess;
  const auto given = known.find("LocalCommRes");
  std::string comm_res = given == known.end() ? "" : given->second;
  const std::string& path = options.resources.comm_res_path;
  if (!comm_res.empty() && !path.empty()) return bad("local_comm_res_path", "LocalCommRes is given as well");
  if (!path.empty()) {
    if (const Status status = read_file(path, comm_res); status != kSuccess) return status;
  }
  if (!comm_res.empty()) {
    const auto parsed = parse_comm_res(comm_res);
    if (!parsed) return bad("LocalCommRes", "not readable");
    options.comm_res = *parsed;
    if (parsed->is_1_3) options.kind = Kind::kHixlEngine;
  } else if (!options.resources.protocol_desc.empty() || options.soc == Soc::k950) {
    options.kind = Kind::kHixlEngine;
  }
  return kSuccess;
}

Status parse_switch(const OptionMap& known, const std::string& name, bool& is_on) {
  const auto found = known.find(name);
  if (found == known.end()) return kSuccess;
  if (found->second != "0" && found->second != "1") return bad(name, "'" + found->second + "' is neither 0 nor 1");
  is_on = found->second == "1";
  return kSuccess;
}

Status parse_since_9(const OptionMap& known, Flavour flavour, Options& options) {
  bool fabric = false;
  Status status = parse_switch(known, "EnableUseFabricMem", fabric);
  if (status == kSuccess && fabric) status = fail(hixl::kUnsupported, "the fake does not model FabricMem");
  if (status == kSuccess) status = parse_switch(known, "AutoConnect", options.auto_connect);
  const auto resources = known.find("GlobalResourceConfig");
  if (status == kSuccess && resources != known.end()) status = parse_resource_config(resources->second, flavour, options.resources);
  return status;
}

}  // namespace

Status parse_options(const OptionMap& given, const std::string& soc_name, Flavour flavour, Options& options) {
  options.soc = soc_of(soc_name);
  OptionMap known;
  Status status = normalise(given, flavour, known);
  if (status == kSuccess && flavour != Flavour::k85) status = parse_since_9(known, flavour, options);
  if (status == kSuccess) status = choose_engine(known, flavour, options);
  if (status == kSuccess && options.kind == Kind::kHixlEngine && known.contains("EnableUseFabricMem")) {
    status = bad("EnableUseFabricMem", "not known to this engine");
  }
  if (status == kSuccess) status = check_range(known, "RdmaTrafficClass", "HCCL_RDMA_TC", 255, 4);
  if (status == kSuccess) status = check_range(known, "RdmaServiceLevel", "HCCL_RDMA_SL", 7, 1);
  if (status == kSuccess) status = check_buffer_pool(known, options);
  if (status == kSuccess && options.kind == Kind::kCommEngine && options.resources.has_waterlines) {
    status = fail(hixl::kUnsupported, "the fake does not model the eviction of channels");
  }
  return status;
}

}  // namespace fake_hixl
