// TransportKind: the closed list of transports, as it is on the wire. Append only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ray_hixl::control {

enum class TransportKind : std::uint8_t { kLocal = 0, kShm = 1, kCma = 2, kStream = 3, kHixl = 4 };
inline constexpr std::size_t kTransportKinds = 5;

[[nodiscard]] std::string_view kind_name(TransportKind kind);  // "local", "shm", "cma", "stream", "hixl"
[[nodiscard]] std::optional<TransportKind> kind_from_name(std::string_view name);

}  // namespace ray_hixl::control
