// Handshake: mutual proof of the engine's key, bound to both incarnations, before anything else is parsed. Pure: bytes in, bytes out.
//
//   client                                             server
//   hello {purpose, transport, incarnations, nonce} ->
//                                                   <- challenge {nonce, mac(key, "server", hello, challenge)}
//   proof {mac(key, "client", hello, challenge)}    ->
//
// Every message has a fixed size; bytes are in docs/protocol.md. A side that sees anything else fails for good and sends nothing more, so
// a client whose hello was refused only sees the connection close; but a server that the hello does not mean says so: other {}. States and
// transitions are one table in handshake.cc.
// Not thread-safe: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "control/auth.h"
#include "control/kinds.h"
#include "control/version.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"

namespace ray_hixl::control {

enum class Purpose : std::uint8_t {
  kControl = 1,  // a link's control connection
  kData = 2,     // a connection handed to a transport
};

struct Hello {
  Purpose purpose = Purpose::kControl;
  TransportKind transport = TransportKind::kLocal;  // of a data connection
  Incarnation client{};
  Incarnation server{};                          // whom the client wants to reach
  Nonce nonce{};                                 // set by Handshake: never chosen by the caller
  Capabilities capabilities = kOwnCapabilities;  // the client's
};

class Handshake {
 public:
  enum class State : std::uint8_t { kAwaitHello, kAwaitChallenge, kAwaitProof, kDone, kFailed };

  // The client's side; its first message is in take_output(). `nonce` is for tests that need known bytes: it must never repeat.
  [[nodiscard]] static Handshake client(const Hello& hello, const Key& key, const Nonce& nonce = random_nonce());
  // The server's side. `nonce` as above.
  [[nodiscard]] static Handshake server(const Incarnation& self, const Key& key, const Nonce& nonce = random_nonce());

  // Takes bytes from the peer; gives how many it consumed. What it did not consume must be shown again in front of what comes next.
  // Bytes after the handshake's end are left alone. A wrong beginning is refused before the message is complete.
  std::size_t on_bytes(ByteView bytes);
  // What to send to the peer now; empty if nothing.
  [[nodiscard]] std::vector<std::byte> take_output();
  [[nodiscard]] State state() const { return state_; }
  // Why it failed, as kConnectError: not a ray-hixl engine, another version, the key is wrong; (server) another incarnation is meant. As
  // kPeerGone (client): another engine listens where the one that was meant did.
  [[nodiscard]] const Status& error() const { return error_; }
  // Who the client is and what it wants. REQUIRES (server): state() == kDone.
  [[nodiscard]] const Hello& hello() const { return hello_; }

  // The longest message of the handshake, for buffers.
  static constexpr std::size_t kLongest = 128;

 private:
  struct Transition;
  static const Transition* transition_from(State state);

  Handshake(State first, const Key& key, const Nonce& nonce) : state_(first), key_(key), nonce_(nonce) {}
  // Each takes one whole message, queues the answer and says whether the peer may go on.
  Status on_hello(ByteView message);
  Status on_challenge(ByteView message);
  Status on_proof(ByteView message);
  [[nodiscard]] Mac server_mac(ByteView challenge_head) const;
  [[nodiscard]] Mac client_mac(ByteView proof_head) const;
  void fail(Status why);

  State state_;
  Status error_;
  Hello hello_;
  Incarnation self_{};  // server
  Key key_;
  Nonce nonce_;  // this side's
  std::vector<std::byte> hello_bytes_;
  std::vector<std::byte> challenge_bytes_;
  std::vector<std::byte> output_;
  std::vector<std::byte> last_word_;  // goes out although it failed
};

}  // namespace ray_hixl::control
