#include "ray_hixl/options.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <functional>

namespace ray_hixl {
namespace {

Status bad(std::string_view name, std::string_view text, std::string_view takes) {
  return Status(Code::kInvalidArgument,
                "option " + std::string(name) + " takes " + std::string(takes) + ", not '" + std::string(text) + "'");
}

Status later(std::string_view name, std::string_view why) {
  return Status(Code::kNotAvailable, "option " + std::string(name) + " is not available in this version: " + std::string(why));
}

template <class T>
Status set_number(T& field, std::string_view name, std::string_view text, std::string_view takes) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return bad(name, text, takes);
  field = value;
  return Status::ok();
}

constexpr std::string_view kPorts = "a range of at least two ports, first-last, from 1024 to 65535";

Status set_ports(PortRange& field, std::string_view text) {
  const std::size_t dash = std::min(text.find('-'), text.size());
  PortRange range;
  RAY_HIXL_RETURN_IF_ERROR(set_number(range.first, "hixl_ports", text.substr(0, dash), kPorts));
  RAY_HIXL_RETURN_IF_ERROR(set_number(range.last, "hixl_ports", text.substr(std::min(dash + 1, text.size())), kPorts));
  field = range;
  return Status::ok();
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    parts.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return parts;
}

constexpr std::string_view kBytes = "a whole number of bytes";
constexpr std::string_view kSeconds = "a number of seconds, above 0 and at most 86400";

struct Knob {
  OptionInfo info;
  std::function<Status(Options&, std::string_view)> set;
};

const std::vector<Knob>& knobs() {
  static const std::vector<Knob> kTable = {
      {{"transports", "names, comma separated", "Allowed transports, in order of preference."},
       [](Options& o, std::string_view text) {
         o.transports = split(text);
         return Status::ok();
       }},
      {{"host", "IP address", "Address the engine listens on and tells to peers; under Ray the node's IP."},
       [](Options& o, std::string_view text) {
         o.host = std::string(text);
         return Status::ok();
       }},
      {{"publish", "alias", "How ordinary memory is published: by reference."},
       [](Options& o, std::string_view text) {
         o.publish = std::string(text);
         return Status::ok();
       }},
      {{"fetch", "copy", "How tensors are fetched: as copies of their own."},
       [](Options& o, std::string_view text) {
         o.fetch = std::string(text);
         return Status::ok();
       }},
      {{"copy_threads", "threads, 0 to 64", "Threads of the copy pool; 0 = one per core, at most 4."},
       [](Options& o, std::string_view text) { return set_number(o.copy_threads, "copy_threads", text, "a whole number from 0 to 64"); }},
      {{"source_arena_bytes", "bytes", "Source arena kept for recycling; not a cap on live memory."},
       [](Options& o, std::string_view text) { return set_number(o.source_arena_bytes, "source_arena_bytes", text, kBytes); }},
      {{"landing_arena_bytes", "bytes", "Landing arena kept for recycling; not a cap on live memory."},
       [](Options& o, std::string_view text) { return set_number(o.landing_arena_bytes, "landing_arena_bytes", text, kBytes); }},
      {{"connect_timeout_s", "seconds", "For connecting, including the handshake."},
       [](Options& o, std::string_view text) { return set_number(o.connect_timeout_s, "connect_timeout_s", text, kSeconds); }},
      {{"transfer_timeout_s", "seconds", "For a transfer whose caller gave no deadline."},
       [](Options& o, std::string_view text) { return set_number(o.transfer_timeout_s, "transfer_timeout_s", text, kSeconds); }},
      {{"stall_timeout_s", "seconds", "A stream transfer without a byte for this long ends as peer gone."},
       [](Options& o, std::string_view text) { return set_number(o.stall_timeout_s, "stall_timeout_s", text, kSeconds); }},
      {{"slab_bytes", "bytes", "First slab on each NPU; further ones double what there is."},
       [](Options& o, std::string_view text) { return set_number(o.slab_bytes, "slab_bytes", text, kBytes); }},
      {{"slab_cap_bytes", "bytes", "What the slabs of one NPU may take together."},
       [](Options& o, std::string_view text) { return set_number(o.slab_cap_bytes, "slab_cap_bytes", text, kBytes); }},
      {{"hixl_ports", "first-last", "Ports that HIXL listens on, two for each process and NPU."},
       [](Options& o, std::string_view text) { return set_ports(o.hixl_ports, text); }},
      {{"checksum", "true or false", "Payload checksums (not in this version)."},
       [](Options&, std::string_view text) { return text == "false" ? Status::ok() : later("checksum", "payloads are not checksummed"); }},
      {{"tls", "true or false", "TLS on TCP connections (not in this version)."},
       [](Options&, std::string_view text) {
         return text == "false" ? Status::ok() : later("tls", "TCP connections are authenticated but not encrypted");
       }},
  };
  return kTable;
}

Status check_transports(const std::vector<std::string>& transports) {
  static constexpr std::string_view kKnown[] = {"local", "shm", "cma", "stream", "hixl"};
  if (transports.empty()) return bad("transports", "", "at least one of local, shm, cma, stream, hixl");
  for (auto it = transports.begin(); it != transports.end(); ++it) {
    if (std::ranges::find(kKnown, *it) == std::end(kKnown)) return bad("transports", *it, "some of local, shm, cma, stream, hixl");
    if (std::find(transports.begin(), it, *it) != it) return bad("transports", *it + "' twice", "each transport once");
  }
  return Status::ok();
}

Status check_host(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  const bool is_v4 = ::inet_pton(AF_INET, host.c_str(), &v4) == 1;
  const bool is_v6 = !is_v4 && ::inet_pton(AF_INET6, host.c_str(), &v6) == 1;
  const bool wildcard = (is_v4 && v4.s_addr == INADDR_ANY) || (is_v6 && IN6_IS_ADDR_UNSPECIFIED(&v6));
  if ((!is_v4 && !is_v6) || wildcard) return bad("host", host, "the IPv4 or IPv6 address of one interface (no name, no wildcard)");
  return Status::ok();
}

// Two ports are needed; HCCL's own lie from 60000 to 60031.
Status check_ports(const PortRange& range) {
  if (range.first >= 1024 && range.last > range.first) return Status::ok();
  return bad("hixl_ports", std::to_string(range.first) + "-" + std::to_string(range.last), kPorts);
}

Status check_seconds(std::string_view name, double seconds) {
  if (seconds > 0 && seconds <= 86400) return Status::ok();
  return bad(name, std::to_string(seconds), kSeconds);
}

}  // namespace

const std::vector<OptionInfo>& option_infos() {
  static const std::vector<OptionInfo> kInfos = [] {
    std::vector<OptionInfo> rows;
    for (const Knob& knob : knobs()) rows.push_back(knob.info);
    return rows;
  }();
  return kInfos;
}

Status set_option(Options& options, std::string_view name, std::string_view text) {
  for (const Knob& knob : knobs()) {
    if (knob.info.name != name) continue;
    Options changed = options;
    RAY_HIXL_RETURN_IF_ERROR(knob.set(changed, text));
    RAY_HIXL_RETURN_IF_ERROR(validate(changed));
    options = std::move(changed);
    return Status::ok();
  }
  std::string known;
  for (const OptionInfo& info : option_infos()) known += (known.empty() ? "" : ", ") + std::string(info.name);
  return Status(Code::kInvalidArgument, "there is no option '" + std::string(name) + "'; there are " + known);
}

Status validate(const Options& options) {
  RAY_HIXL_RETURN_IF_ERROR(check_transports(options.transports));
  RAY_HIXL_RETURN_IF_ERROR(check_host(options.host));
  if (options.publish == "snapshot") return later("publish", "'snapshot' (a copy at publish time) is not built yet; use 'alias'");
  if (options.publish != "alias") return bad("publish", options.publish, "'alias'");
  if (options.fetch == "map") return later("fetch", "'map' (mapping instead of copying) is not built yet; use 'copy'");
  if (options.fetch != "copy") return bad("fetch", options.fetch, "'copy'");
  if (options.copy_threads > 64) return bad("copy_threads", std::to_string(options.copy_threads), "a whole number from 0 to 64");
  if (options.slab_bytes == 0) return bad("slab_bytes", "0", "a number of bytes above 0");
  RAY_HIXL_RETURN_IF_ERROR(check_ports(options.hixl_ports));
  RAY_HIXL_RETURN_IF_ERROR(check_seconds("connect_timeout_s", options.connect_timeout_s));
  RAY_HIXL_RETURN_IF_ERROR(check_seconds("transfer_timeout_s", options.transfer_timeout_s));
  return check_seconds("stall_timeout_s", options.stall_timeout_s);
}

Result<Options> options_from_environment() {
  Options options;
  for (const OptionInfo& info : option_infos()) {
    std::string variable = "RAY_HIXL_" + std::string(info.name);
    std::ranges::transform(variable, variable.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    const char* text = std::getenv(variable.c_str());
    if (text == nullptr) continue;
    if (const Status status = set_option(options, info.name, text); !status.is_ok()) return status.with_context(variable);
  }
  return options;
}

}  // namespace ray_hixl
