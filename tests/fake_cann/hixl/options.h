// The options of Initialize.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "hixl/endpoints.h"
#include "hixl/errors.h"
#include "hixl/rules.h"

namespace fake_hixl {

// GlobalResourceConfig.
struct ResourceConfig {
  std::vector<std::string> protocol_desc;
  long listen_port = 0;  // of the device's NIC; 0: not given
  long max_active_channels = 128;
  long connect_threads = 2;
  long connect_queue = 128;
  long max_channel = 512;
  bool has_waterlines = false;
  std::string comm_res_path;
};

struct Options {
  Soc soc = Soc::kOther;
  Kind kind = Kind::kHixlEngine;
  bool auto_connect = false;
  CommRes comm_res;
  ResourceConfig resources;
};

using OptionMap = std::map<std::string, std::string>;

// Checks them as the engine that they choose would, and this flavour of the library.
[[nodiscard]] Status parse_options(const OptionMap& given, const std::string& soc_name, Flavour flavour, Options& options);

[[nodiscard]] Status parse_resource_config(const std::string& json, Flavour flavour, ResourceConfig& config);

}  // namespace fake_hixl
