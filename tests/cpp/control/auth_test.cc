#include "control/auth.h"

#include <gtest/gtest.h>

#include <span>
#include <string>
#include <string_view>

namespace ray_hixl::control {
namespace {

ByteView bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

// HMAC pads keys with zeros, so a shorter key is the same as one with zeros behind it.
Key key_of(std::string_view text) {
  Key key{};
  std::ranges::copy(bytes_of(text), key.begin());
  return key;
}

std::string hex(const Mac& mac) {
  std::string out;
  for (const std::byte byte : mac) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    out += kDigits[static_cast<std::size_t>(byte >> 4)];
    out += kDigits[static_cast<std::size_t>(byte & std::byte{15})];
  }
  return out;
}

TEST(Auth, hmac_gives_the_codes_of_rfc_4231) {
  EXPECT_EQ(hex(hmac(key_of(std::string(20, '\x0b')), {bytes_of("Hi There")})),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(hex(hmac(key_of("Jefe"), {bytes_of("what do ya want "), bytes_of("for nothing?")})),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(Auth, hmac_of_nothing_is_defined) {
  EXPECT_EQ(hex(hmac(Key{}, {})), "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

TEST(Auth, equal_sees_a_difference_in_any_byte) {
  const Mac mac = hmac(Key{}, {bytes_of("x")});
  EXPECT_TRUE(equal(mac, mac));
  for (std::size_t i = 0; i < mac.size(); ++i) {
    Mac other = mac;
    other[i] ^= std::byte{1};
    EXPECT_FALSE(equal(mac, other)) << "byte " << i;
  }
}

TEST(Auth, random_nonces_differ) { EXPECT_NE(random_nonce(), random_nonce()); }

}  // namespace
}  // namespace ray_hixl::control
