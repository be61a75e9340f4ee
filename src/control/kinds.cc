#include "control/kinds.h"

#include <array>

namespace ray_hixl::control {
namespace {

constexpr std::array<std::string_view, kTransportKinds> kNames = {"local", "shm", "cma", "stream", "hixl"};
static_assert(static_cast<std::size_t>(TransportKind::kHixl) + 1 == kTransportKinds);

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
