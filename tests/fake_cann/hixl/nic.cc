#include "hixl/nic.h"

#include <fstream>
#include <functional>

#include "hixl/switches.h"

namespace fake_hixl {
namespace {

constexpr long kDefaultPort = 16666;

// address_<device>= of hccn.conf; empty if there is no such line.
std::string configured_address(int device) {
  std::ifstream file(text_switch("FAKE_HIXL_HCCN_CONF", "/etc/hccn.conf"));
  const std::string wanted = "address_" + std::to_string(device) + "=";
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(wanted)) return line.substr(wanted.size());
  }
  return "";
}

// All of 127.0.0.0/8 is this machine: each address gets one of its own there.
std::string stand_in(const std::string& ip) {
  if (ip.starts_with("127.")) return ip;
  const std::size_t hash = std::hash<std::string>()(ip);
  return "127." + std::to_string(64 + hash % 128) + "." + std::to_string(hash / 128 % 256) + "." + std::to_string(1 + hash / 32768 % 254);
}

}  // namespace

Status find_nic(int device, bool is_needed, Nic& nic) {
  nic.ip = configured_address(device);
  if (nic.ip.empty() && is_needed) {
    return fail(hixl::kFailed,
                "no device ip: " + text_switch("FAKE_HIXL_HCCN_CONF", "/etc/hccn.conf") + " has no address_" + std::to_string(device));
  }
  if (nic.ip.empty()) nic.ip = "127.63.0." + std::to_string(device + 1);
  return hixl::kSuccess;
}

Status listen_at_nic(Soc soc, Flavour flavour, long port, Nic& nic) {
  const bool takes_any = soc == Soc::k950 && flavour != Flavour::k85;
  const long chosen = port == 0 && !takes_any ? kDefaultPort : port;
  const auto address = parse_address(stand_in(nic.ip) + ":" + std::to_string(chosen));
  if (address) nic.listener = listen_at(*address);
  if (nic.listener.is_open()) return hixl::kSuccess;
  return fail(hixl::kFailed, "port " + std::to_string(chosen) + " of the device's network card is taken (" + nic.ip +
                                 "); comm_resource_config.listen_port sets another");
}

}  // namespace fake_hixl
