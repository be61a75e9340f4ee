#include "control/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstdlib>
#include <vector>

#include "base/fork.h"
#include "base/log.h"
#include "base/random.h"

namespace ray_hixl::control {

void load_crypto() {
  const NoFork no_fork;                                        // libcrypto's locks must be free in a forked child
  OPENSSL_init_crypto(OPENSSL_INIT_ADD_ALL_DIGESTS, nullptr);  // for 0 it does nothing
}

Mac hmac(const Key& key, std::initializer_list<ByteView> parts) {
  std::vector<std::byte> message;
  for (const ByteView part : parts) message.insert(message.end(), part.begin(), part.end());
  Mac mac{};
  unsigned int length = 0;
  const auto* const made = [&] {
    const NoFork no_fork;  // as above
    return HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const unsigned char*>(message.data()),
                message.size(), reinterpret_cast<unsigned char*>(mac.data()), &length);
  }();
  if (made == nullptr || length != mac.size()) {
    log(LogLevel::kError, "libcrypto cannot compute HMAC-SHA-256, so no peer can be authenticated: ending the process");
    std::abort();
  }
  return mac;
}

bool equal(const Mac& a, const Mac& b) { return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0; }

Nonce random_nonce() {
  Nonce nonce;
  fill_random(nonce);
  return nonce;
}

}  // namespace ray_hixl::control
