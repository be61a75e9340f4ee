// Peers that have the key and then do not keep to the protocol: readers towards an owner, and owners towards a reader.
#include <cstring>
#include <functional>
#include <list>
#include <random>
#include <thread>

#include "memory/slots.h"
#include "net/identity.h"
#include "support/engines.h"
#include "support/eventually.h"
#include "support/raw_socket.h"

namespace ray_hixl::test {
namespace {

using control::Handshake;
using control::Hello;
using control::Purpose;
using control::TransportKind;
using testing::HasSubstr;

// A frame's header that says what it likes; `size` counts header and body.
Bytes header(std::uint32_t size, std::uint16_t type) {
  Bytes frame = control::encode(1, control::MapSegment{0});
  frame.resize(control::kFrameHeaderBytes);
  std::memcpy(frame.data(), &size, sizeof(size));
  std::memcpy(frame.data() + 4, &type, sizeof(type));
  return frame;
}

// Makes a request, which has number 1, a notice.
Bytes without_request(Bytes frame) {
  frame[8] = std::byte{0};
  return frame;
}

Bytes operator+(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Bytes random_bytes(std::size_t size, std::uint32_t seed) {
  std::mt19937 random(seed);
  Bytes bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// What a frame that breaks the protocol looks like.
const std::vector<std::pair<std::string, Bytes>>& bad_frames() {
  static const std::vector<std::pair<std::string, Bytes>> kFrames = {
      {"garbage", random_bytes(4096, 1)},
      {"zeros", Bytes(100)},
      {"too_long_for_an_unknown_type", header(1 << 20, 999)},
      {"oversized", header(0xffffffff, 2)},
      {"request_without_a_number", without_request(control::encode(1, control::Resolve{}))},
      {"too_long_for_its_type", header(4096, 2)},
      {"too_short_for_its_type", header(16, 2)},
  };
  return kFrames;
}

// ---- Readers that an owner meets.

class BadReader : public testing::TestWithParam<bool> {
 protected:
  explicit BadReader(const Options& options = {}) : engine(options) {}

  RawSocket connect(Purpose purpose, TransportKind transport = TransportKind::kLocal) {
    const auto to = control::decode_engine(engine->descriptor()).value();
    RawSocket socket = GetParam() ? RawSocket::over_tcp(to) : RawSocket::over_unix(to);
    Hello hello;
    hello.purpose = purpose;
    hello.transport = transport;
    hello.client[0] = std::byte{1};
    hello.server = to.incarnation;
    EXPECT_TRUE(socket.shake_hands(Handshake::client(hello, to.key)));
    return socket;
  }
  control::Welcome welcome() {
    RawSocket socket = connect(Purpose::kControl);
    const auto message = socket.message();
    return control::decode_welcome(message->body).value();
  }
  RawSocket open_session() {
    RawSocket socket = connect(Purpose::kControl);
    const auto welcome = socket.message();
    EXPECT_TRUE(welcome && welcome->type == control::MessageType::kWelcome);
    return socket;
  }
  // What the owner answers to a read on a data connection of its own.
  Status ask(const control::Read& read) {
    RawSocket socket = connect(Purpose::kData, TransportKind::kStream);
    EXPECT_TRUE(socket.send(control::encode(1, read)));
    const auto answer = socket.message();
    if (!answer || answer->type != control::MessageType::kFailure) return Status::ok();
    return control::decode_failure(answer->body)->status;
  }
  void expect_that_the_owner_goes_on() const {
    const OwnEngine good({"stream"});
    const Peer peer = good->connect(engine->descriptor(), kConnect).value();
    const Region local = good->allocate(4096).value();
    EXPECT_THAT(peer.read(whole(peer, local, peer.region(region.descriptor()).value()), kRead), IsOk());
    EXPECT_TRUE(is_pattern(bytes_of(local), 1));
  }

  const OwnEngine engine;
  const Region region = add_region(*engine, 4096, 1);
  const Handle handle = control::decode_region(region.descriptor())->handle;
};

TEST_P(BadReader, is_hung_up_on_for_a_bad_frame_in_its_session) {
  for (const auto& [name, frame] : bad_frames()) {
    RawSocket socket = open_session();
    (void)socket.send(frame);
    EXPECT_TRUE(socket.is_hung_up()) << name;
    EXPECT_TRUE(eventually([&] { return engine->stats().sessions == 0; })) << name;
  }
  expect_that_the_owner_goes_on();
}

TEST_P(BadReader, is_hung_up_on_for_a_bad_frame_on_a_data_connection) {
  for (const auto& [name, frame] : bad_frames()) {
    RawSocket socket = connect(Purpose::kData, TransportKind::kStream);
    (void)socket.send(frame);
    EXPECT_TRUE(socket.is_hung_up()) << name;
  }
  for (const Bytes& misplaced : {control::encode(1, control::MapSegment{0}), without_request(control::encode(1, control::Read{}))}) {
    RawSocket socket = connect(Purpose::kData, TransportKind::kStream);
    EXPECT_TRUE(socket.send(misplaced));
    EXPECT_TRUE(socket.is_hung_up());
  }
  expect_that_the_owner_goes_on();
}

// What a later version may say: the link goes on.
TEST_P(BadReader, that_asks_for_something_unknown_is_told_so_and_served_on) {
  Bytes unknown = header(20, 999) + Bytes(4);
  unknown[6] = std::byte{2};  // announces descriptors, too
  for (RawSocket* socket : {new RawSocket(open_session()), new RawSocket(connect(Purpose::kData, TransportKind::kStream))}) {
    const std::unique_ptr<RawSocket> owned(socket);
    EXPECT_TRUE(socket->send(unknown));
    const auto answer = socket->message();
    ASSERT_TRUE(answer && answer->type == control::MessageType::kFailure);
    EXPECT_EQ(answer->request, 1u);
    const Status why = control::decode_failure(answer->body)->status;
    EXPECT_THAT(why, FailsWith(Code::kNotAvailable));
    EXPECT_THAT(why.message(), HasSubstr("999"));
    EXPECT_TRUE(socket->send(unknown));
    EXPECT_TRUE(socket->message());
  }
}

TEST_P(BadReader, that_tells_something_unknown_is_not_minded) {
  const Bytes notice = without_request(header(20, 999)) + Bytes(4);
  RawSocket session = open_session();
  EXPECT_TRUE(session.send(notice + control::encode(9, control::MapSegment{12345})));
  const auto answer = session.message();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->request, 9u);
  RawSocket data = connect(Purpose::kData, TransportKind::kStream);
  EXPECT_TRUE(data.send(notice + control::encode(9, control::Read{{{handle, 0, 1}}})));
  const auto reading = data.message();
  ASSERT_TRUE(reading);
  EXPECT_EQ(reading->type, control::MessageType::kReading);
}

TEST_P(BadReader, is_hung_up_on_by_a_transport_without_data_connections) {
  for (const TransportKind kind : {TransportKind::kLocal, TransportKind::kShm, TransportKind::kCma}) {
    RawSocket socket = connect(Purpose::kData, kind);
    EXPECT_TRUE(socket.is_hung_up());
  }
}

TEST_P(BadReader, may_hang_up_in_the_middle_of_a_frame) {
  const Bytes whole_frame = control::encode(1, control::Read{{{handle, 0, 4096}}});
  for (const std::size_t cut : {std::size_t{1}, control::kFrameHeaderBytes, whole_frame.size() - 1}) {
    RawSocket session = open_session();
    EXPECT_TRUE(session.send(std::span(whole_frame).first(cut)));
    session.hang_up();
    RawSocket data = connect(Purpose::kData, TransportKind::kStream);
    EXPECT_TRUE(data.send(std::span(whole_frame).first(cut)));
    data.hang_up();
  }
  EXPECT_TRUE(eventually([&] { return engine->stats().sessions == 0; }));
  expect_that_the_owner_goes_on();
}

TEST_P(BadReader, may_hang_up_in_the_middle_of_an_answer) {
  const Region large = add_region(*engine, 16 << 20, 1);
  const Handle of_large = control::decode_region(large.descriptor())->handle;
  for (int i = 0; i < 4; ++i) {
    RawSocket socket = connect(Purpose::kData, TransportKind::kStream);
    EXPECT_TRUE(socket.send(control::encode(1, control::Read{{{of_large, 0, 16 << 20}}})));
    socket.hang_up();
  }
  expect_that_the_owner_goes_on();
}

TEST_P(BadReader, gets_no_byte_that_it_has_no_handle_for) {
  Handle wrong_key = handle;
  wrong_key.key ^= 1;
  Handle stale = handle;
  stale.generation -= 2;
  Handle free = handle;
  free.generation += 1;
  Handle outside = handle;
  outside.slot = 0xfffffff0;
  for (const Handle& bad : {wrong_key, stale, free, outside}) {
    EXPECT_THAT(ask({{{bad, 0, 1}}}), FailsWith(Code::kInvalidRegion));
    EXPECT_THAT(ask({{{handle, 0, 1}, {bad, 0, 1}}}), FailsWith(Code::kInvalidRegion));
  }
  EXPECT_THAT(ask({{{handle, 4096, 1}}}), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(ask({{{handle, 1, 4096}}}), FailsWith(Code::kInvalidRegion));
  EXPECT_THAT(ask({{{handle, ~std::uint64_t{0}, 2}}}), FailsWith(Code::kInvalidArgument));
  EXPECT_EQ(engine->stats().served_bytes, 0u);
  EXPECT_THAT(ask({{{handle, 0, 4096}}}), IsOk());
}

TEST_P(BadReader, learns_addresses_over_a_unix_socket_only) {
  RawSocket session = open_session();
  EXPECT_TRUE(session.send(control::encode(9, control::Resolve{handle})));
  const auto answer = session.message();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->request, 9u);
  EXPECT_EQ(answer->type, GetParam() ? control::MessageType::kFailure : control::MessageType::kResolved);
  EXPECT_TRUE(session.send(control::encode(10, control::MapSegment{12345})));
  const auto refused = session.message();
  ASSERT_TRUE(refused && refused->type == control::MessageType::kFailure);
  EXPECT_TRUE(session.send(control::encode(11, control::Reading{1})));  // what only owners say
  const auto unknown = session.message();
  ASSERT_TRUE(unknown && unknown->type == control::MessageType::kFailure);
  EXPECT_THAT(control::decode_failure(unknown->body)->status, FailsWith(Code::kInvalidArgument));
}

class SlowTaker : public BadReader {
 protected:
  SlowTaker() : BadReader(impatient()) {}
  static Options impatient() {
    Options options;
    options.stall_timeout_s = 0.2;
    return options;
  }
};

TEST_P(SlowTaker, is_hung_up_on_and_keeps_no_memory) {
  auto memory = std::make_shared<Bytes>(16 << 20);
  const Region large = engine->register_memory({memory->data(), memory->size()}, false, memory).value();
  const std::weak_ptr<Bytes> kept = std::exchange(memory, nullptr);
  RawSocket socket = connect(Purpose::kData, TransportKind::kStream);
  EXPECT_TRUE(socket.send(control::encode(1, control::Read{{{control::decode_region(large.descriptor())->handle, 0, 16 << 20}}})));
  EXPECT_TRUE(eventually([&] { return engine->stats().served_bytes > 0; }));
  large.close();
  EXPECT_TRUE(eventually([&] { return kept.expired(); }));
  EXPECT_TRUE(socket.is_hung_up());
}

INSTANTIATE_TEST_SUITE_P(Over, SlowTaker, testing::Bool(), [](const auto& tcp) { return tcp.param ? "tcp" : "unix"; });

TEST_P(BadReader, is_welcomed_with_addresses_over_a_unix_socket_only) {
  const control::Welcome told = welcome();
  EXPECT_EQ(told.has_generations, !GetParam());
  EXPECT_EQ(told.transports.size(), Options{}.transports.size());
  for (const control::TransportInfo& transport : told.transports) {
    const bool says_more = !GetParam() && (transport.kind == TransportKind::kCma || transport.kind == TransportKind::kStaged);
    EXPECT_EQ(transport.details.empty(), !says_more) << control::kind_name(transport.kind);
  }
}

INSTANTIATE_TEST_SUITE_P(Over, BadReader, testing::Bool(), [](const auto& tcp) { return tcp.param ? "tcp" : "unix"; });

// ---- Owners that a reader meets.

// Has a key and a handshake like any engine; what it says then is up to the test.
class Impostor {
 public:
  using Script = std::function<void(RawSocket&)>;

  // On a Unix socket it looks like a process of this host and user.
  explicit Impostor(Script script, bool over_unix = false, const Incarnation& claimed = {std::byte{7}})
      : script_(std::move(script)), listener_(over_unix ? listen_unix(descriptor_) : listen_tcp(descriptor_)) {
    descriptor_.incarnation = claimed;
    descriptor_.key[0] = std::byte{8};
    ::fcntl(listener_.get(), F_SETFL, 0);
    thread_ = std::thread([this] { accept(); });
  }
  ~Impostor() {
    stop_listening();
    thread_.join();
  }
  Impostor(const Impostor&) = delete;
  Impostor& operator=(const Impostor&) = delete;
  [[nodiscard]] Bytes descriptor() const { return control::encode(descriptor_); }
  void stop_listening() { ::shutdown(listener_.get(), SHUT_RDWR); }

  static Bytes welcome(TransportKind transport = TransportKind::kStream) {
    control::Welcome message;
    message.pid = 1;
    message.transports = {{transport, {}}};
    return control::encode(0, message);
  }
  // One that it says it has.
  [[nodiscard]] RemoteRegion region(std::uint64_t bytes) const {
    RemoteRegion remote;
    remote.owner = descriptor_.incarnation;
    remote.handle = {1, 1, 1};
    remote.length = bytes;
    return remote;
  }

 private:
  static Fd listen_tcp(control::EngineDescriptor& descriptor) {
    Fd listener = std::move(net::listen_tcp("127.0.0.1")).value();
    descriptor.tcp_host = "127.0.0.1";
    descriptor.tcp_port = net::local_port(listener).value();
    return listener;
  }
  static Fd listen_unix(control::EngineDescriptor& descriptor) {
    const net::HostIdentity self = net::this_process().value();
    descriptor.boot_id = self.boot_id;
    descriptor.pid_namespace = self.pid_namespace;
    descriptor.network_namespace = self.network_namespace;
    descriptor.unix_name = "ray-hixl-test-" + std::to_string(::getpid()) + "-" + std::to_string(std::random_device{}());
    return std::move(net::listen_unix(descriptor.unix_name)).value();
  }

  void accept() {
    while (true) {
      Fd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!socket) return;
      RawSocket& raw = sockets_.emplace_back(std::move(socket));
      if (raw.shake_hands(Handshake::server(descriptor_.incarnation, descriptor_.key))) script_(raw);
    }
  }

  const Script script_;
  control::EngineDescriptor descriptor_;
  const Fd listener_;
  std::list<RawSocket> sockets_;  // open for as long as the impostor lives, unless the script hung up
  std::thread thread_;
};

TEST(BadOwner, that_breaks_the_protocol_is_not_connected_to) {
  for (const auto& [name, frame] : bad_frames()) {
    const Impostor impostor([&](RawSocket& socket) { (void)socket.send(frame); });
    const OwnEngine engine;
    EXPECT_THAT(engine->connect(impostor.descriptor(), kConnect).status(), FailsWith(Code::kConnectError)) << name;
    EXPECT_EQ(engine->stats().links, 0u);
  }
}

TEST(BadOwner, that_speaks_before_its_welcome_or_hangs_up_is_not_connected_to) {
  const std::vector<Impostor::Script> scripts = {
      [](RawSocket& socket) { (void)socket.send(control::encode(0, control::SegmentRetired{1})); },
      [](RawSocket& socket) { socket.hang_up(); },
      [](RawSocket& socket) {
        const Bytes welcome = Impostor::welcome();
        (void)socket.send(std::span(welcome).first(20));
        socket.hang_up();
      },
      [](RawSocket& socket) {
        control::Welcome lies;
        lies.has_generations = true;  // and sends no descriptor along
        Bytes frame = control::encode(0, lies);
        frame[6] = std::byte{0};  // in its header, too
        (void)socket.send(frame);
      },
      [](RawSocket& socket) {
        control::Welcome lies;
        lies.has_generations = true;  // announces a descriptor, and sends none along
        (void)socket.send(control::encode(0, lies));
      },
  };
  for (const auto& script : scripts) {
    const Impostor impostor(script);
    const OwnEngine engine;
    EXPECT_THAT(engine->connect(impostor.descriptor(), kConnect).status(), FailsWith(Code::kConnectError));
  }
}

TEST(BadOwner, that_ends_before_its_welcome_is_gone) {
  Impostor* self = nullptr;
  Impostor impostor([&](RawSocket& socket) {
    self->stop_listening();
    socket.hang_up();
  });
  self = &impostor;
  const OwnEngine engine;
  EXPECT_THAT(engine->connect(impostor.descriptor(), kConnect).status(), FailsWith(Code::kPeerGone));
}

TEST(BadOwner, that_breaks_off_once_before_its_welcome_is_connected_to) {
  bool is_first = true;
  const Impostor impostor([&](RawSocket& socket) {
    if (std::exchange(is_first, false)) return socket.hang_up();
    (void)socket.send(Impostor::welcome());
  });
  const OwnEngine engine;
  EXPECT_TRUE(engine->connect(impostor.descriptor(), kConnect).is_ok());
}

TEST(BadOwner, that_authenticates_itself_and_then_says_nothing_is_given_up_in_time) {
  const Impostor impostor([](RawSocket&) {});
  const OwnEngine engine;
  const Status status = engine->connect(impostor.descriptor(), 200ms).status();
  EXPECT_THAT(status, FailsWith(Code::kConnectError));
  EXPECT_THAT(status.message(), HasSubstr("authenticated"));
}

// What a later version may say: the link goes on.
TEST(BadOwner, that_says_something_unknown_loses_the_request_at_most) {
  memory::Reaper reaper;
  const auto slots = memory::SlotTable::create(reaper).value();
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(slots->publish({}).is_ok());  // slot 1 is the region's
  const Impostor impostor(
      [&](RawSocket& socket) {
        control::Welcome welcome;
        welcome.has_generations = true;
        welcome.transports = {{TransportKind::kShm, {}}};
        (void)socket.send_with(control::encode(0, welcome), slots->generations());
        (void)socket.send(without_request(header(20, 999)) + Bytes(4));
        while (const auto asked = socket.message()) {
          Bytes answer = header(16, 999);
          std::memcpy(answer.data() + 8, &asked->request, sizeof(asked->request));
          (void)socket.send(answer);
        }
      },
      true);
  const OwnEngine engine({"shm"});
  const Peer peer = engine->connect(impostor.descriptor(), kConnect).value();
  const Region local = add_region(*engine, 200, 99);
  for (int i = 0; i < 2; ++i) {
    const Status status = peer.read(prepare_one(peer, {local, 0, impostor.region(100), 0, 100}).value(), kRead);
    EXPECT_THAT(status, FailsWith(Code::kNotAvailable));
    EXPECT_THAT(status.message(), HasSubstr("type 999"));
  }
  EXPECT_EQ(engine->stats().links, 1u);
}

TEST(BadOwner, that_goes_bad_later_is_lost) {
  for (const auto& frame : {Impostor::welcome(), header(0xffffffff, 3), random_bytes(100, 2)}) {
    const Impostor impostor([&](RawSocket& socket) {
      (void)socket.send(Impostor::welcome());
      (void)socket.send(control::encode(77, control::Segment{4096}));  // an answer to nothing: ignored
      (void)socket.send(frame);
    });
    const OwnEngine engine({"stream"});
    const Result<Peer> peer = engine->connect(impostor.descriptor(), kConnect);
    EXPECT_TRUE(eventually([&] { return engine->stats().links == 0; }));
    EXPECT_EQ(engine->stats().links_lost, peer.is_ok() ? 1u : 0u);
  }
}

TEST(BadOwner, that_claims_to_be_another_engine_gets_none_of_its_readers) {
  const OwnEngine owner;
  const Region shown = add_region(*owner, 100, 1);
  const Impostor impostor([](RawSocket& socket) { (void)socket.send(Impostor::welcome()); }, false,
                          control::decode_engine(owner->descriptor())->incarnation);
  const OwnEngine engine({"stream"});
  const Peer forged = engine->connect(impostor.descriptor(), kConnect).value();
  const Peer peer = engine->connect(owner->descriptor(), kConnect).value();
  const Region local = engine->allocate(100).value();
  EXPECT_THAT(peer.read(whole(peer, local, peer.region(shown.descriptor()).value()), kRead), IsOk());
  EXPECT_TRUE(is_pattern(bytes_of(local), 1));
  EXPECT_EQ(engine->stats().links, 2u);
}

// What an owner may send on a data connection instead of an answer, and how the read ends.
struct BadAnswer {
  std::string name;
  Bytes sent;
  Code code;
};

class BadStream : public testing::TestWithParam<BadAnswer> {};

TEST_P(BadStream, ends_the_read_with_one_error) {
  bool is_control = true;
  const Impostor impostor([&](RawSocket& socket) {
    if (std::exchange(is_control, false)) return (void)socket.send(Impostor::welcome());
    (void)socket.message();
    (void)socket.send(GetParam().sent);
    socket.hang_up();
  });
  const OwnEngine engine({"stream"});
  const Peer peer = engine->connect(impostor.descriptor(), kConnect).value();
  const RemoteRegion remote = impostor.region(100);
  const Region local = add_region(*engine, 200, 99);
  EXPECT_THAT(peer.read(prepare_one(peer, {local, 50, remote, 0, 100}).value(), kRead), FailsWith(GetParam().code));
  EXPECT_TRUE(is_pattern(bytes_of(local).first(50), 99));
  EXPECT_TRUE(is_pattern(bytes_of(local).last(50), 99, 150));
}

const Bytes kReading = control::encode(1, control::Reading{100});
const Bytes kGood = control::encode(1, control::ReadEnd{Status::ok()});

INSTANTIATE_TEST_SUITE_P(
    Answers, BadStream,
    testing::Values(
        BadAnswer{"nothing", {}, Code::kPeerGone}, BadAnswer{"garbage", random_bytes(300, 3), Code::kPeerGone},
        BadAnswer{"more_bytes_than_asked_for", control::encode(1, control::Reading{101}) + Bytes(101) + kGood, Code::kPeerGone},
        BadAnswer{"fewer_bytes_than_asked_for", control::encode(1, control::Reading{99}) + Bytes(99) + kGood, Code::kPeerGone},
        BadAnswer{"half_of_the_payload", kReading + Bytes(50), Code::kPeerGone},
        BadAnswer{"no_verdict", kReading + Bytes(100), Code::kPeerGone},
        BadAnswer{"another_message_as_verdict", kReading + Bytes(100) + control::encode(1, control::Segment{1}), Code::kPeerGone},
        BadAnswer{"more_behind_the_verdict", kReading + Bytes(100) + kGood + Bytes(1), Code::kPeerGone},
        BadAnswer{"a_verdict_before_the_payload", kGood, Code::kPeerGone},
        BadAnswer{"an_answer_to_another_request",
                  control::encode(2, control::Reading{100}) + Bytes(100) + control::encode(2, control::ReadEnd{Status::ok()}),
                  Code::kPeerGone},
        BadAnswer{"a_verdict_on_another_request", kReading + Bytes(100) + control::encode(2, control::ReadEnd{Status::ok()}),
                  Code::kPeerGone},
        BadAnswer{"a_failure", control::encode(1, control::Failure{Status(Code::kInvalidRegion, "closed")}), Code::kInvalidRegion},
        BadAnswer{"a_bad_verdict", kReading + Bytes(100) + control::encode(1, control::ReadEnd{Status(Code::kInvalidRegion, "freed")}),
                  Code::kInvalidRegion}),
    [](const auto& answer) { return answer.param.name; });

}  // namespace
}  // namespace ray_hixl::test
