// Element types whose size everybody knows: metadata that says another is found out even where no framework could tell.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ray_hixl {

struct KnownType {
  std::string_view name;  // torch's
  std::uint32_t bytes = 0;
};

inline constexpr std::array kKnownTypes = {
    KnownType{"bool", 1},           KnownType{"int8", 1},
    KnownType{"int16", 2},          KnownType{"int32", 4},
    KnownType{"int64", 8},          KnownType{"uint8", 1},
    KnownType{"uint16", 2},         KnownType{"uint32", 4},
    KnownType{"uint64", 8},         KnownType{"float16", 2},
    KnownType{"float32", 4},        KnownType{"float64", 8},
    KnownType{"bfloat16", 2},       KnownType{"complex32", 4},
    KnownType{"complex64", 8},      KnownType{"complex128", 16},
    KnownType{"float8_e4m3fn", 1},  KnownType{"float8_e4m3fnuz", 1},
    KnownType{"float8_e5m2", 1},    KnownType{"float8_e5m2fnuz", 1},
    KnownType{"float8_e8m0fnu", 1}, KnownType{"float4_e2m1fn_x2", 1},
};

// Bytes of one element; nullopt for a name that is not known here, which may have any size.
[[nodiscard]] constexpr std::optional<std::uint32_t> known_item_bytes(std::string_view dtype) {
  const auto* const found = std::ranges::find(kKnownTypes, dtype, &KnownType::name);
  if (found == kKnownTypes.end()) return std::nullopt;
  return found->bytes;
}

}  // namespace ray_hixl
