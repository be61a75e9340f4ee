// Keys, nonces and message authentication codes (HMAC-SHA-256 by OpenSSL's libcrypto).
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>

#include "base/bytes.h"

namespace ray_hixl::control {

using Key = std::array<std::byte, 32>;
using Nonce = std::array<std::byte, 32>;
using Mac = std::array<std::byte, 32>;

// Makes libcrypto register its exit function now. Called by itself at the first use otherwise.
void load_crypto();
// HMAC over the concatenation of `parts`.
[[nodiscard]] Mac hmac(const Key& key, std::initializer_list<ByteView> parts);
// In constant time.
[[nodiscard]] bool equal(const Mac& a, const Mac& b);
// Fresh from the kernel.
[[nodiscard]] Nonce random_nonce();

}  // namespace ray_hixl::control
