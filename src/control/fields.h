// Small fields that descriptors and handshakes share. Private to control.
#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string_view>

#include "base/bytes.h"

namespace ray_hixl::control {

inline ByteView as_bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// Zeros if the reader is too short.
template <std::size_t kSize>
[[nodiscard]] std::array<std::byte, kSize> read_array(ByteReader& reader) {
  std::array<std::byte, kSize> out{};
  std::ranges::copy(reader.bytes(kSize), out.begin());
  return out;
}

}  // namespace ray_hixl::control
