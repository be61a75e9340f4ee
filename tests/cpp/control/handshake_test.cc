#include "control/handshake.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "documented_bytes.h"

namespace ray_hixl::control {
namespace {

using Bytes = std::vector<std::byte>;
using State = Handshake::State;

constexpr std::size_t kPurposeOffset = 8;
constexpr std::size_t kTransportOffset = 9;

const Key kKey = counting_from<Key>(0x00);
const Incarnation kClient = counting_from<Incarnation>(0x40);
const Incarnation kServer = counting_from<Incarnation>(0x50);

Nonce repeated(int value) {
  Nonce nonce;
  nonce.fill(static_cast<std::byte>(value));
  return nonce;
}

Hello example_hello() {
  Hello hello;
  hello.purpose = Purpose::kData;
  hello.transport = TransportKind::kStream;
  hello.client = kClient;
  hello.server = kServer;
  return hello;
}

Handshake example_client() { return Handshake::client(example_hello(), kKey, repeated(0xc1)); }
Handshake example_server() { return Handshake::server(kServer, kKey, repeated(0xd2)); }

void expect_refused(Handshake& side, std::string_view why) {
  EXPECT_EQ(side.state(), State::kFailed);
  EXPECT_EQ(side.error().code(), Code::kConnectError);
  EXPECT_NE(side.error().message().find(why), std::string::npos) << side.error().to_string();
  EXPECT_TRUE(side.take_output().empty());
}

TEST(Handshake, messages_are_the_documented_bytes) {
  Handshake client = example_client();
  Handshake server = example_server();
  const Bytes hello = client.take_output();
  EXPECT_EQ(hello, documented("hello"));
  EXPECT_EQ(server.on_bytes(hello), hello.size());
  const Bytes challenge = server.take_output();
  EXPECT_EQ(challenge, documented("challenge"));
  EXPECT_EQ(client.on_bytes(challenge), challenge.size());
  const Bytes proof = client.take_output();
  EXPECT_EQ(proof, documented("proof"));
  EXPECT_EQ(client.state(), State::kDone);
  EXPECT_EQ(server.on_bytes(proof), proof.size());
  EXPECT_EQ(server.state(), State::kDone);
  EXPECT_TRUE(server.take_output().empty());
}

TEST(Handshake, tells_the_server_who_the_client_is_and_what_it_wants) {
  Handshake client = Handshake::client(example_hello(), kKey);
  Handshake server = Handshake::server(kServer, kKey);
  server.on_bytes(client.take_output());
  client.on_bytes(server.take_output());
  server.on_bytes(client.take_output());
  ASSERT_EQ(server.state(), State::kDone);
  EXPECT_EQ(server.hello().purpose, Purpose::kData);
  EXPECT_EQ(server.hello().transport, TransportKind::kStream);
  EXPECT_EQ(server.hello().client, kClient);
}

TEST(Handshake, carries_the_clients_capabilities_whether_the_server_knows_them_or_not) {
  Hello hello = example_hello();
  hello.capabilities = 0x8000'0000'0000'0001;
  Handshake client = Handshake::client(hello, kKey);
  Handshake server = Handshake::server(kServer, kKey);
  server.on_bytes(client.take_output());
  client.on_bytes(server.take_output());
  server.on_bytes(client.take_output());
  ASSERT_EQ(server.state(), State::kDone);
  EXPECT_EQ(server.hello().capabilities, 0x8000'0000'0000'0001u);
}

TEST(Handshake, draws_its_nonces_itself) {
  Hello hello = example_hello();
  hello.nonce = repeated(0);
  EXPECT_NE(Handshake::client(hello, kKey).take_output(), Handshake::client(hello, kKey).take_output());
  Handshake first = Handshake::server(kServer, kKey);
  Handshake second = Handshake::server(kServer, kKey);
  first.on_bytes(documented("hello"));
  second.on_bytes(documented("hello"));
  EXPECT_NE(first.take_output(), second.take_output());
}

TEST(Handshake, waits_at_every_byte_and_consumes_only_whole_messages) {
  Handshake client = example_client();
  Handshake server = example_server();
  for (const std::string name : {"hello", "challenge", "proof"}) {
    Handshake& receiver = name == "challenge" ? client : server;
    const Bytes message = documented(name);
    for (std::size_t size = 0; size < message.size(); ++size) {
      EXPECT_EQ(receiver.on_bytes(ByteView(message).first(size)), 0u) << name << " " << size;
      ASSERT_NE(receiver.state(), State::kFailed);
    }
    EXPECT_EQ(receiver.on_bytes(message), message.size());
  }
  EXPECT_EQ(client.state(), State::kDone);
  EXPECT_EQ(server.state(), State::kDone);
}

TEST(Handshake, leaves_bytes_behind_its_end_alone) {
  Handshake server = example_server();
  server.on_bytes(documented("hello"));
  Bytes bytes = documented("proof");
  const std::size_t proof = bytes.size();
  bytes.resize(proof + 100, std::byte{0xee});
  EXPECT_EQ(server.on_bytes(bytes), proof);
  EXPECT_EQ(server.state(), State::kDone);
  EXPECT_EQ(server.on_bytes(bytes), 0u);
  EXPECT_EQ(server.state(), State::kDone);
}

TEST(Handshake, takes_two_messages_that_arrive_as_one) {
  Handshake server = example_server();
  Bytes bytes = documented("hello");
  const Bytes proof = documented("proof");
  bytes.insert(bytes.end(), proof.begin(), proof.end());
  EXPECT_EQ(server.on_bytes(bytes), bytes.size());
  EXPECT_EQ(server.state(), State::kDone);
}

TEST(Handshake, refuses_another_protocol_at_its_first_byte) {
  for (const bool is_client : {false, true}) {
    Handshake side = is_client ? example_client() : example_server();
    (void)side.take_output();
    const Bytes request = {std::byte{'G'}};
    EXPECT_EQ(side.on_bytes(request), 0u);
    expect_refused(side, "not a ray-hixl engine");
  }
}

TEST(Handshake, refuses_another_version_before_the_message_is_complete) {
  for (const std::string name : {"hello", "challenge"}) {
    Handshake side = name == "hello" ? example_server() : example_client();
    (void)side.take_output();
    Bytes message = documented(name);
    message[4] = std::byte{1};
    side.on_bytes(ByteView(message).first(8));
    expect_refused(side, "another version of the protocol (1, not 2)");
  }
}

TEST(Handshake, tells_who_means_another_incarnation_that_it_is_another_one) {
  Hello hello = example_hello();
  hello.server[0] ^= std::byte{1};
  Handshake client = Handshake::client(hello, kKey);
  Handshake server = example_server();
  server.on_bytes(client.take_output());
  const Bytes other = server.take_output();
  EXPECT_EQ(other, documented("other"));
  expect_refused(server, "another incarnation");
  client.on_bytes(other);
  EXPECT_EQ(client.state(), State::kFailed);
  EXPECT_EQ(client.error().code(), Code::kPeerGone);
}

// Only the one who asked takes that for an answer.
TEST(Handshake, a_server_is_not_told_that_it_is_another_one) {
  Handshake server = example_server();
  server.on_bytes(documented("other"));
  expect_refused(server, "malformed");
}

TEST(Handshake, refuses_purposes_and_transports_that_do_not_exist) {
  const auto refused = [](int purpose, int transport) {
    Handshake server = example_server();
    Bytes hello = documented("hello");
    hello[kPurposeOffset] = static_cast<std::byte>(purpose);
    hello[kTransportOffset] = static_cast<std::byte>(transport);
    server.on_bytes(hello);
    return server.state() == State::kFailed;
  };
  EXPECT_TRUE(refused(0, 0));
  EXPECT_TRUE(refused(3, 0));
  EXPECT_TRUE(refused(2, kTransportKinds));
  EXPECT_TRUE(refused(1, 3));
  EXPECT_FALSE(refused(1, 0));
  EXPECT_FALSE(refused(2, 4));
}

TEST(Handshake, the_client_refuses_a_server_with_another_key) {
  Key other = kKey;
  other[31] ^= std::byte{1};
  Handshake client = example_client();
  Handshake server = Handshake::server(kServer, other);
  server.on_bytes(client.take_output());
  client.on_bytes(server.take_output());
  expect_refused(client, "the key is wrong");
}

TEST(Handshake, the_server_refuses_a_client_with_another_key) {
  Key other = kKey;
  other[0] ^= std::byte{0x80};
  // A client that ignores the server's code, as an attacker would: its proof comes from a pair that shares the other key.
  Handshake attacker = Handshake::client(example_hello(), other, repeated(0xc1));
  Handshake accomplice = Handshake::server(kServer, other, repeated(0xd2));
  const Bytes hello = attacker.take_output();
  accomplice.on_bytes(hello);
  attacker.on_bytes(accomplice.take_output());
  Handshake server = example_server();
  server.on_bytes(hello);
  (void)server.take_output();
  server.on_bytes(attacker.take_output());
  expect_refused(server, "the key is wrong");
}

TEST(Handshake, any_changed_bit_of_any_message_is_refused_by_one_of_the_sides) {
  for (const std::string name : {"hello", "challenge", "proof"}) {
    const std::size_t size = documented(name).size();
    for (std::size_t bit = 0; bit < size * 8; ++bit) {
      Handshake client = example_client();
      Handshake server = example_server();
      const auto tamper = [&](const std::string& step, Bytes message) {
        if (step == name) message[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
        return message;
      };
      server.on_bytes(tamper("hello", client.take_output()));
      client.on_bytes(tamper("challenge", server.take_output()));
      server.on_bytes(tamper("proof", client.take_output()));
      ASSERT_TRUE(client.state() != State::kDone || server.state() != State::kDone) << name << " bit " << bit;
      ASSERT_NE(server.state(), State::kDone) << name << " bit " << bit;
    }
  }
}

TEST(Handshake, reflecting_the_servers_code_proves_nothing) {
  Handshake server = example_server();
  server.on_bytes(documented("hello"));
  const Bytes challenge = server.take_output();
  Bytes proof = documented("proof");
  std::copy(challenge.end() - 32, challenge.end(), proof.end() - 32);
  server.on_bytes(proof);
  expect_refused(server, "the key is wrong");
}

TEST(Handshake, reflecting_a_message_to_its_sender_is_refused) {
  Handshake client = example_client();
  client.on_bytes(client.take_output());
  expect_refused(client, "not a ray-hixl engine");
  Handshake server = example_server();
  server.on_bytes(documented("hello"));
  server.on_bytes(server.take_output());
  expect_refused(server, "not a ray-hixl engine");
}

// Asking a second connection of the same server for the code that the first one wants.
TEST(Handshake, one_session_gives_no_code_for_another) {
  Handshake first = Handshake::server(kServer, kKey);
  Handshake second = Handshake::server(kServer, kKey);
  first.on_bytes(documented("hello"));
  Bytes hello = documented("hello");
  const Bytes challenge = first.take_output();
  std::copy(challenge.begin() + 8, challenge.begin() + 40, hello.end() - 40);  // the first server's nonce as the second client's
  second.on_bytes(hello);
  const Bytes answer = second.take_output();
  Bytes proof = documented("proof");
  std::copy(answer.end() - 32, answer.end(), proof.end() - 32);
  first.on_bytes(proof);
  expect_refused(first, "the key is wrong");
}

TEST(Handshake, a_recorded_session_cannot_be_played_again) {
  Handshake server = Handshake::server(kServer, kKey);  // a nonce of its own
  server.on_bytes(documented("hello"));
  (void)server.take_output();
  server.on_bytes(documented("proof"));
  expect_refused(server, "the key is wrong");
  Handshake client = Handshake::client(example_hello(), kKey);
  (void)client.take_output();
  client.on_bytes(documented("challenge"));
  expect_refused(client, "the key is wrong");
}

TEST(Handshake, a_failed_side_stays_failed_and_silent) {
  Handshake server = example_server();
  server.on_bytes(Bytes(82, std::byte{0}));
  EXPECT_EQ(server.on_bytes(documented("hello")), 0u);
  expect_refused(server, "not a ray-hixl engine");
}

TEST(Handshake, a_control_connection_has_no_transport) {
  Hello hello = example_hello();
  hello.purpose = Purpose::kControl;
  Handshake client = Handshake::client(hello, kKey);
  Handshake server = example_server();
  server.on_bytes(client.take_output());
  EXPECT_EQ(server.state(), State::kAwaitProof);
  EXPECT_EQ(server.hello().transport, TransportKind::kLocal);
}

}  // namespace
}  // namespace ray_hixl::control
