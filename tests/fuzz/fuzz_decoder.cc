// Fuzz target: whatever a peer may send goes to everything that takes bytes from a peer.
//
// An input is raw bytes: each decoder gets all of them, so that one corpus serves all. Beyond "no crash", what decodes must encode to the
// same bytes again, failures must have the documented code, and a handshake must not depend on how its bytes were cut.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "control/descriptor.h"
#include "control/handshake.h"
#include "control/messages.h"
#include "control/status_codec.h"
#include "largest_allocation.h"
#include "require.h"

namespace ray_hixl::control {
namespace {

using Bytes = std::vector<std::byte>;

bool same(const Bytes& a, ByteView b) { return std::ranges::equal(a, b); }

void try_descriptors(ByteView input) {
  const Result<EngineDescriptor> engine = decode_engine(input);
  if (engine.is_ok()) {
    require(same(encode(*engine), input), "an engine's descriptor encodes to what it was decoded from");
    require(clean_text(engine->name()) == engine->name(), "an engine's name is printable");
  } else {
    require(engine.status().code() == Code::kInvalidArgument, "a malformed engine descriptor is an invalid argument");
  }
  const Result<RemoteRegion> region = decode_region(input);
  if (region.is_ok()) {
    require(same(encode(*region), input), "a region's descriptor encodes to what it was decoded from");
  } else {
    require(region.status().code() == Code::kInvalidRegion, "a malformed region descriptor is an invalid region");
  }
}

Bytes body_of(const Bytes& frame) { return {frame.begin() + kFrameHeaderBytes, frame.end()}; }

bool adds_up(std::uint64_t start, std::uint64_t length, std::uint64_t& sum) {
  std::uint64_t end = 0;
  return !__builtin_add_overflow(start, length, &end) && !__builtin_add_overflow(sum, length, &sum);
}

// What everything that uses a message relies on.
template <class Message>
void check(const Message&) {}
void check(const Resolved& message) {
  std::uint64_t ranges = 0;
  std::uint64_t segments = 0;
  for (const RemoteRange& range : message.ranges) require(adds_up(range.address, range.length, ranges), "ranges do not overflow");
  for (const RemoteSegment& segment : message.segments)
    require(adds_up(segment.base, segment.length, segments), "segments do not overflow");
}
void check(const Read& message) {
  std::uint64_t sum = 0;
  for (const ReadSpan& span : message.spans) require(adds_up(span.offset, span.length, sum), "spans do not overflow");
}
void check(const Stage& message) {
  std::uint64_t sum = 0;
  for (const ReadSpan& span : message.spans) require(adds_up(span.offset, span.length, sum), "spans do not overflow");
}
void check(const ReadEnd& message) { require(clean_text(message.status.message()) == message.status.message(), "a message is readable"); }
void check(const Failure& message) {
  require(!message.status.is_ok(), "a failure is one");
  require(clean_text(message.status.message()) == message.status.message(), "a message is readable");
}

bool is_printable(const std::string& text) {
  return std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~'; });
}
void check(const Located& message) {
  std::uint64_t end = 0;
  std::uint64_t sum = 0;
  for (const DeviceRange& range : message.ranges) {
    require(range.length > 0 && range.address != 0 && range.device < kDevices, "a device range has bytes, an address and a device");
    require(range.offset >= end, "device ranges are by offset and do not overlap");
    require(adds_up(range.offset, range.length, sum), "device ranges do not overflow");
    std::uint64_t any = 0;
    require(adds_up(range.address, range.length, any), "device addresses do not overflow");
    end = range.offset + range.length;
  }
}
void check(const DescribeDevice& message) { require(message.device < kDevices, "a device index has 16 bits"); }
void check(const AwaitRecall& message) { require(message.device < kDevices && !message.engine.empty(), "a device, and its engine"); }
void check(const ReleaseDevice& message) { require(message.device < kDevices && !message.engine.empty(), "a device, and its engine"); }
void check(const CannotLink& message) { require(message.device < kDevices && !message.engine.empty(), "a device, and its engine"); }
void check(const DeviceDescription& message) {
  require(is_printable(message.engine) && !message.engine.empty() && message.engine.find(' ') == std::string::npos, "an engine has a name");
  require(is_printable(message.fingerprint), "a fingerprint is printable");
  require(message.engine.size() <= DeviceDescription::kLongestEngine, "the name of an engine is short");
  require(message.fingerprint.size() <= DeviceDescription::kLongestFingerprint, "a fingerprint is short");
}

// What a decoder may drop (unknown transports) or clean (text) is gone after one round; from then on nothing changes.
template <class Message>
void try_body(ByteView body, Result<Message> (*decode)(ByteView), bool is_exact) {
  const Result<Message> message = decode(body);
  if (!message.is_ok()) {
    require(message.status().code() == Code::kInvalidArgument, "a malformed body is an invalid argument");
    return;
  }
  check(*message);
  const Bytes once = encode(1, *message);
  const Result<std::optional<Frame>> frame = next_frame(once);
  require(frame.is_ok() && frame->has_value() && (*frame)->bytes.size() == once.size(), "what was encoded is one frame");
  const Result<Message> again = decode((*frame)->body);
  require(again.is_ok() && encode(1, *again) == once, "a message survives encoding");
  require(!is_exact || same(body_of(once), body), "a body encodes to what it was decoded from");
}

void try_bodies(ByteView body) {
  try_body(body, &decode_welcome, false);
  try_body(body, &decode_resolve, true);
  try_body(body, &decode_resolved, true);
  try_body(body, &decode_map_segment, true);
  try_body(body, &decode_segment, true);
  try_body(body, &decode_segment_retired, true);
  try_body(body, &decode_read, true);
  try_body(body, &decode_reading, true);
  try_body(body, &decode_read_end, false);
  try_body(body, &decode_failure, false);
  try_body(body, &decode_locate, true);
  try_body(body, &decode_located, true);
  try_body(body, &decode_describe_device, true);
  try_body(body, &decode_device_description, true);
  try_body(body, &decode_check, true);
  try_body(body, &decode_checked, true);
  try_body(body, &decode_await_recall, true);
  try_body(body, &decode_recalled, true);
  try_body(body, &decode_release_device, true);
  try_body(body, &decode_released, true);
  try_body(body, &decode_cannot_link, true);
  try_body(body, &decode_noted, true);
  try_body(body, &decode_stage, true);
  try_body(body, &decode_staged, true);
}

void try_frames(ByteView input) {
  while (true) {
    const Result<std::optional<Frame>> frame = next_frame(input);
    if (!frame.is_ok()) {
      require(frame.status().code() == Code::kInvalidArgument, "a malformed frame is an invalid argument");
      return;
    }
    if (!frame->has_value()) return;
    const Frame& found = **frame;
    require(found.bytes.size() >= kFrameHeaderBytes && found.bytes.size() <= std::min(input.size(), kLongestFrame),
            "a frame lies within its input");
    require(found.descriptors <= kMostDescriptors, "a frame announces a bounded number of descriptors");
    require(is_known(found.type) || found.bytes.size() <= kLongestUnknownFrame, "an unknown frame is short");
    require(found.body.size() == found.bytes.size() - kFrameHeaderBytes, "a body is what follows the header");
    try_bodies(found.body);
    input = input.subspan(found.bytes.size());
  }
}

template <class Array>
Array counting_from(unsigned first) {
  Array out{};
  for (auto& byte : out) byte = static_cast<std::byte>(first++);
  return out;
}

// With the values of docs/protocol.md, so that its examples lead through the whole handshake.
Handshake example(bool is_client) {
  const Key key = counting_from<Key>(0x00);
  Hello hello;
  hello.purpose = Purpose::kData;
  hello.transport = TransportKind::kStream;
  hello.client = counting_from<Incarnation>(0x40);
  hello.server = counting_from<Incarnation>(0x50);
  Nonce nonce;
  nonce.fill(static_cast<std::byte>(is_client ? 0xc1 : 0xd2));
  return is_client ? Handshake::client(hello, key, nonce) : Handshake::server(hello.server, key, nonce);
}

// What a server says that is not meant.
Bytes other() {
  Bytes message;
  for (const char byte : std::string("RHXL\2\0\4\0", 8)) message.push_back(static_cast<std::byte>(byte));
  return message;
}

struct Outcome {
  Handshake::State state;
  std::size_t consumed;
  std::string error;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

// Shows the input in pieces, what was not consumed again in front, as a connection does.
Outcome shake_hands(ByteView input, bool is_client, std::size_t piece) {
  Handshake side = example(is_client);
  std::size_t consumed = 0;
  for (std::size_t shown = 0; shown < input.size();) {
    shown = std::min(input.size(), shown + piece);
    const std::size_t taken = side.on_bytes(input.subspan(consumed, shown - consumed));
    require(taken <= shown - consumed, "a handshake consumes no more than it was shown");
    consumed += taken;
  }
  const bool has_failed = side.state() == Handshake::State::kFailed;
  const bool is_another = is_client && side.error().code() == Code::kPeerGone;
  require(has_failed == (side.error().code() == Code::kConnectError || is_another), "a failed handshake is a connect error, or another's");
  const Bytes last_word = has_failed ? side.take_output() : Bytes();
  require(last_word.empty() || (!is_client && same(last_word, other())), "a failed handshake says at most that another engine is meant");
  return {side.state(), consumed, side.error().message()};
}

void try_handshakes(ByteView input) {
  for (const bool is_client : {false, true}) {
    const Outcome whole = shake_hands(input, is_client, std::max<std::size_t>(input.size(), 1));
    require(shake_hands(input, is_client, 29) == whole, "how the bytes are cut changes nothing");
  }
}

}  // namespace
}  // namespace ray_hixl::control

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ray_hixl::ModestAllocations limit(size);
  const ray_hixl::ByteView input = std::as_bytes(std::span(data, size));
  ray_hixl::control::try_descriptors(input);
  ray_hixl::control::try_frames(input);
  ray_hixl::control::try_bodies(input);
  ray_hixl::control::try_handshakes(input);
  return 0;
}
