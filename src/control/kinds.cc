#include "control/kinds.h"

#include <algorithm>
#include <array>

namespace ray_hixl::control {
namespace {

// By number: an index into arrays, so that none may be left out or given twice.
constexpr std::array<std::string_view, kTransportKinds> kNames = [] {
  std::array<std::string_view, kTransportKinds> names{};
#define RAY_HIXL_TRANSPORT(name, kind, number, memory) names.at(number) = #name;
#include "base/transports.def"
  return names;
}();
static_assert(std::ranges::none_of(kNames, [](std::string_view name) { return name.empty(); }));

}  // namespace

std::string_view kind_name(TransportKind kind) {
  const auto index = static_cast<std::size_t>(kind);
  return index < kNames.size() ? kNames[index] : "unknown";
}

std::optional<TransportKind> kind_from_name(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == name) return static_cast<TransportKind>(i);
  }
  return std::nullopt;
}

}  // namespace ray_hixl::control
