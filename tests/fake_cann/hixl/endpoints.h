// What an engine can be reached by, and which of it a link takes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hixl/errors.h"

namespace fake_hixl {

// Families of chips, by the name the runtime gives.
enum class Soc { kA2, kA3, k950, kOther };
[[nodiscard]] Soc soc_of(const std::string& name);

// LocalCommRes: what the caller says about its endpoints.
struct CommRes {
  bool is_1_3 = false;
  std::string net_instance;            // empty: found out
  std::vector<std::string> endpoints;  // "roce:device"; empty: found out
};
// nullopt where the real one finds a bad parameter.
[[nodiscard]] std::optional<CommRes> parse_comm_res(const std::string& json);

struct Endpoints {
  std::string net_instance;  // peers of one instance reach each other without a network
  std::vector<std::string> protocols;
};
// Whether the address of the device's card must be known: where RoCE is made out of nothing that the caller said. HIXL asks for it even
// where a link would take HCCS.
[[nodiscard]] bool needs_device_ip(Soc soc, const CommRes& given, const std::vector<std::string>& wanted);
// `wanted` (protocol_desc) filters; nothing left is a bad parameter. `ip` is the one of the engine's name.
[[nodiscard]] Status find_endpoints(Soc soc, const CommRes& given, const std::vector<std::string>& wanted, const std::string& ip,
                                    Endpoints& endpoints);
// What a link between the two takes; empty if nothing fits.
[[nodiscard]] std::string match_endpoints(const Endpoints& local, const Endpoints& remote);

// Whether a region of such a kind can be registered on one of the endpoints.
[[nodiscard]] bool accepts_memory(const Endpoints& endpoints, hixl::MemType kind, Soc soc);
// Whether a link over `protocol` reaches such memory. HCCS never reaches a peer's host memory, on A2 nor one's own.
[[nodiscard]] bool reaches_memory(const std::string& protocol, hixl::MemType kind, bool is_remote, Soc soc);

}  // namespace fake_hixl
