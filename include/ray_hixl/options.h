// Options: every knob of an engine. Default, unit, effect and when to touch it stand at each field.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ray_hixl/status.h"

namespace ray_hixl {

// First and last port of a range, both included.
struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  friend bool operator==(const PortRange&, const PortRange&) = default;
};

struct Options {
  // Allowed transports, in order of preference. Unknown names are refused. Take one out to rule it out (e.g. for a measurement).
  std::vector<std::string> transports = {"local", "shm", "cma", "stream", "hixl"};
  // IP address (v4 or v6, no name) the engine listens on and tells to peers. Never a wildcard address. Under Ray: the node's IP.
  std::string host = "127.0.0.1";
  // "alias": publishing ordinary memory references it. ("snapshot", a copy at publish time, is not available yet.)
  std::string publish = "alias";
  // "copy": fetched tensors are copies. ("map" is not available yet.)
  std::string fetch = "copy";
  // Threads of the copy pool, 1..64. 0 = chosen from the number of cores (at most 4). They sleep while nothing is copied.
  std::uint32_t copy_threads = 0;
  // Bytes of source arena kept for recycling; a segment beyond it is given back when it is empty. Not a cap on live memory.
  std::uint64_t source_arena_bytes = std::uint64_t{1} << 30;
  // The same for the landing arena, where fetched tensors live.
  std::uint64_t landing_arena_bytes = std::uint64_t{1} << 30;
  // Bytes of the first slab on each NPU that is used: device memory for received tensors, ray_hixl.empty() and the copies of published
  // tensors. Taken and registered with HIXL at the NPU's first use, in steps of 2 MiB. Further slabs double what there is, and cost every
  // peer a new link: raise it to what one process holds at a time.
  std::uint64_t slab_bytes = std::uint64_t{64} << 20;
  // Bytes that the slabs of one NPU may take together, but the first one in any case; beyond it a publish or fetch ends as out of memory.
  std::uint64_t slab_cap_bytes = std::uint64_t{4} << 30;
  // Ports that HIXL listens on, two for each process and NPU, drawn at random. Narrow it to what a firewall lets through.
  PortRange hixl_ports = {20000, 29999};
  // Seconds for connect, including the handshake.
  double connect_timeout_s = 10.0;
  // Seconds for a transfer whose caller gave no deadline.
  double transfer_timeout_s = 30.0;
  // A stream transfer that receives no byte for this long (seconds) ends as peer gone, long before its deadline.
  double stall_timeout_s = 5.0;
};

// One row per knob: how it is spelled in Options(...) and, upper-cased behind RAY_HIXL_, in the environment.
struct OptionInfo {
  std::string_view name;
  std::string_view unit;
  std::string_view effect;
};
[[nodiscard]] const std::vector<OptionInfo>& option_infos();

// Sets the knob `name` from text, as the environment spells it ("1073741824", "10.5", "shm,stream"). Code::kInvalidArgument names the
// knob and what it takes; kNotAvailable for values that a later version will take.
[[nodiscard]] Status set_option(Options& options, std::string_view name, std::string_view text);
// Every value in its range and every combination possible?
[[nodiscard]] Status validate(const Options& options);
// Defaults overridden by RAY_HIXL_<NAME>. The only place of the core that reads the environment.
[[nodiscard]] Result<Options> options_from_environment();

}  // namespace ray_hixl
