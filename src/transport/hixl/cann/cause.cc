#include "transport/hixl/cann/cause.h"

#include <algorithm>
#include <cctype>
#include <initializer_list>
#include <string>
#include <string_view>

namespace ray_hixl::transport::hixl {

Cause cause_of(const Outcome& outcome) {
  if (is_out_of_memory(outcome.code)) return Cause::kResources;
  if (outcome.code != kFailed) return Cause::kUnknown;
  std::string said = outcome.said;
  std::ranges::transform(said, said.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto speaks_of = [&](std::initializer_list<std::string_view> words) {
    return std::ranges::any_of(words, [&](std::string_view word) { return said.find(word) != std::string::npos; });
  };
  if (speaks_of({"listen", "bind", "address already in use", "network card is taken"})) return Cause::kPort;
  if (speaks_of({"not there", "connection refused", "no route to host", "unreachable"})) return Cause::kAbsent;
  if (speaks_of({"device ip", "hccn"})) return Cause::kNoDeviceIp;
  if (speaks_of({"kernel", "aicpu", "ascend_home_path"})) return Cause::kKernels;
  if (speaks_of({"memory", "stream", "notify", "endpoint", "queue", "create_cq", "create_qp"})) return Cause::kResources;
  return Cause::kUnknown;
}

}  // namespace ray_hixl::transport::hixl
