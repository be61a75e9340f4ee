// TransportKind: the transports of base/transports.def, as they are on the wire.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ray_hixl::control {

enum class TransportKind : std::uint8_t {
#define RAY_HIXL_TRANSPORT(name, kind, number, memory) k##kind = number,
#include "base/transports.def"
};
inline constexpr std::size_t kTransportKinds = 0
#define RAY_HIXL_TRANSPORT(name, kind, number, memory) +1
#include "base/transports.def"
    ;

[[nodiscard]] std::string_view kind_name(TransportKind kind);  // "local", "shm", ...
[[nodiscard]] std::optional<TransportKind> kind_from_name(std::string_view name);

}  // namespace ray_hixl::control
