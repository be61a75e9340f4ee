#include "control/handshake.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <utility>

#include "control/fields.h"

namespace ray_hixl::control {
namespace {

constexpr std::string_view kMagic = "RHXL";

// Every message begins with magic (4), version (2), step (1), zero (1).
enum class Step : std::uint8_t { kHello = 1, kChallenge = 2, kProof = 3, kOther = 4 };
constexpr std::size_t kPrefixBytes = 8;

constexpr std::size_t kHelloBytes = kPrefixBytes + 1 + 1 + 2 * sizeof(Incarnation) + sizeof(Nonce) + sizeof(Capabilities);
constexpr std::size_t kChallengeHeadBytes = kPrefixBytes + sizeof(Nonce);
constexpr std::size_t kChallengeBytes = kChallengeHeadBytes + sizeof(Mac);
constexpr std::size_t kProofBytes = kPrefixBytes + sizeof(Mac);
static_assert(kHelloBytes == 82 && kChallengeBytes == 72 && kProofBytes == 40, "docs/protocol.md");
static_assert(std::max({kHelloBytes, kChallengeBytes, kProofBytes}) <= Handshake::kLongest);

// What a code is for comes first in what is authenticated, so that one side's code is never good as the other's.
constexpr std::string_view kServerLabel = "ray-hixl server";
constexpr std::string_view kClientLabel = "ray-hixl client";
static_assert(kServerLabel.size() == kClientLabel.size() && kServerLabel != kClientLabel);

Status refusal(std::string message) { return {Code::kConnectError, std::move(message)}; }

Status wrong_key() {
  return refusal("the peer does not prove the engine's key: the key is wrong; use a descriptor of the engine that runs now");
}

Status malformed() { return refusal("the peer's handshake is malformed: it is not a ray-hixl engine"); }

ByteWriter begin(Step step) {
  ByteWriter writer;
  writer.bytes(as_bytes(kMagic));
  writer.u16(kProtocolVersion);
  writer.u8(static_cast<std::uint8_t>(step));
  writer.u8(0);
  return writer;
}

// What is wrong with the first bytes of a message, as far as they are there.
Status check_prefix(ByteView bytes, Step step) {
  const ByteView magic = as_bytes(kMagic);
  const std::size_t shown = std::min(bytes.size(), magic.size());
  if (!std::ranges::equal(bytes.first(shown), magic.first(shown))) {
    return refusal("the peer does not speak this protocol: it is not a ray-hixl engine");
  }
  if (bytes.size() < kPrefixBytes) return Status::ok();
  ByteReader reader(bytes.subspan(magic.size()));
  const std::uint16_t version = reader.u16();
  if (version != kProtocolVersion) {
    return refusal("the peer speaks another version of the protocol (" + std::to_string(version) + ", not " +
                   std::to_string(kProtocolVersion) + "): run the same ray-hixl on both sides");
  }
  const std::uint8_t found = reader.u8();
  const std::uint8_t zero = reader.u8();
  if (step == Step::kChallenge && found == static_cast<std::uint8_t>(Step::kOther) && zero == 0) {
    return {Code::kPeerGone,
            "another engine listens there now: the one that was meant has ended or was restarted, or the address is not its own"};
  }
  return found == static_cast<std::uint8_t>(step) && zero == 0 ? Status::ok() : malformed();
}

std::vector<std::byte> encode_hello(const Hello& hello) {
  ByteWriter writer = begin(Step::kHello);
  writer.u8(static_cast<std::uint8_t>(hello.purpose));
  writer.u8(static_cast<std::uint8_t>(hello.transport));
  writer.bytes(hello.client);
  writer.bytes(hello.server);
  writer.bytes(hello.nonce);
  writer.u64(hello.capabilities);
  return writer.take();
}

// A control connection belongs to no transport and says kLocal; a data connection may say any known one.
bool is_valid(std::uint8_t purpose, std::uint8_t transport) {
  if (purpose == static_cast<std::uint8_t>(Purpose::kControl)) return transport == static_cast<std::uint8_t>(TransportKind::kLocal);
  return purpose == static_cast<std::uint8_t>(Purpose::kData) && transport < kTransportKinds;
}

Result<Hello> decode_hello(ByteView message) {
  ByteReader reader(message.subspan(kPrefixBytes));
  const std::uint8_t purpose = reader.u8();
  const std::uint8_t transport = reader.u8();
  if (!is_valid(purpose, transport)) return malformed();
  Hello hello;
  hello.purpose = static_cast<Purpose>(purpose);
  hello.transport = static_cast<TransportKind>(transport);
  hello.client = read_array<sizeof(Incarnation)>(reader);
  hello.server = read_array<sizeof(Incarnation)>(reader);
  hello.nonce = read_array<sizeof(Nonce)>(reader);
  hello.capabilities = reader.u64();
  return hello;
}

Mac read_mac(ByteView bytes) {
  ByteReader reader(bytes);
  return read_array<sizeof(Mac)>(reader);
}

std::vector<std::byte> copy(ByteView bytes) { return {bytes.begin(), bytes.end()}; }

}  // namespace

// One row per state that waits for a message.
struct Handshake::Transition {
  State state;
  Step expected;
  std::size_t size;
  Status (Handshake::*action)(ByteView message);
  State next;
};

const Handshake::Transition* Handshake::transition_from(State state) {
  static constexpr std::array kTransitions = {
      Transition{State::kAwaitHello, Step::kHello, kHelloBytes, &Handshake::on_hello, State::kAwaitProof},
      Transition{State::kAwaitChallenge, Step::kChallenge, kChallengeBytes, &Handshake::on_challenge, State::kDone},
      Transition{State::kAwaitProof, Step::kProof, kProofBytes, &Handshake::on_proof, State::kDone},
  };
  const auto* row = std::ranges::find(kTransitions, state, &Transition::state);
  return row == kTransitions.end() ? nullptr : row;
}

Handshake Handshake::client(const Hello& hello, const Key& key, const Nonce& nonce) {
  Handshake handshake(State::kAwaitChallenge, key, nonce);
  handshake.hello_ = hello;
  handshake.hello_.nonce = nonce;
  if (hello.purpose == Purpose::kControl) handshake.hello_.transport = TransportKind::kLocal;
  handshake.hello_bytes_ = encode_hello(handshake.hello_);
  handshake.output_ = handshake.hello_bytes_;
  return handshake;
}

Handshake Handshake::server(const Incarnation& self, const Key& key, const Nonce& nonce) {
  Handshake handshake(State::kAwaitHello, key, nonce);
  handshake.self_ = self;
  return handshake;
}

std::size_t Handshake::on_bytes(ByteView bytes) {
  std::size_t consumed = 0;
  while (const Transition* transition = transition_from(state_)) {
    const ByteView rest = bytes.subspan(consumed);
    if (Status prefix = check_prefix(rest, transition->expected); !prefix.is_ok()) {
      fail(std::move(prefix));
      break;
    }
    if (rest.size() < transition->size) break;
    if (Status outcome = (this->*transition->action)(rest.first(transition->size)); !outcome.is_ok()) {
      fail(std::move(outcome));
      break;
    }
    consumed += transition->size;
    state_ = transition->next;
  }
  return consumed;
}

std::vector<std::byte> Handshake::take_output() { return std::exchange(output_, {}); }

Status Handshake::on_hello(ByteView message) {
  Result<Hello> hello = decode_hello(message);
  if (!hello.is_ok()) return hello.status();
  if (hello->server != self_) {
    last_word_ = begin(Step::kOther).take();
    return refusal("the peer wants another incarnation of this engine (it was restarted): use a descriptor of the engine that runs now");
  }
  hello_ = *hello;
  hello_bytes_ = copy(message);
  ByteWriter challenge = begin(Step::kChallenge);
  challenge.bytes(nonce_);
  const Mac mac = server_mac(challenge.view());
  challenge.bytes(mac);
  challenge_bytes_ = challenge.take();
  output_ = challenge_bytes_;
  return Status::ok();
}

Status Handshake::on_challenge(ByteView message) {
  const ByteView head = message.first(kChallengeHeadBytes);
  if (!equal(read_mac(message.subspan(kChallengeHeadBytes)), server_mac(head))) return wrong_key();
  challenge_bytes_ = copy(message);
  ByteWriter proof = begin(Step::kProof);
  const Mac mac = client_mac(proof.view());
  proof.bytes(mac);
  output_ = proof.take();
  return Status::ok();
}

Status Handshake::on_proof(ByteView message) {
  const ByteView head = message.first(kPrefixBytes);
  return equal(read_mac(message.subspan(kPrefixBytes)), client_mac(head)) ? Status::ok() : wrong_key();
}

Mac Handshake::server_mac(ByteView challenge_head) const { return hmac(key_, {as_bytes(kServerLabel), hello_bytes_, challenge_head}); }

Mac Handshake::client_mac(ByteView proof_head) const {
  return hmac(key_, {as_bytes(kClientLabel), hello_bytes_, challenge_bytes_, proof_head});
}

void Handshake::fail(Status why) {
  state_ = State::kFailed;
  error_ = std::move(why);
  output_ = std::move(last_word_);
}

}  // namespace ray_hixl::control
