// Messages after the handshake: a 16-byte frame header and a body. Bytes are in docs/protocol.md; layouts are pinned by golden tests.
//
// Requests carry an id, not 0, that the answer repeats; notices carry 0. Each struct has encode (to a whole frame) and decode (from a
// body). Every count is checked against the bytes that are there before anything is allocated. Malformed bodies give kInvalidArgument. In
// what was decoded, address + length, offset + length and the sum of all lengths of one list fit into 64 bits, device indices are below
// kDevices, and texts are printable ASCII: they go into messages for people.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "control/kinds.h"
#include "control/version.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"

namespace ray_hixl::control {

enum class MessageType : std::uint16_t {
  kWelcome = 1,             // server: the session is up (with the generations' descriptor, between processes of one uid)
  kResolve = 2,             // client: where are the bytes of this slot?
  kResolved = 3,            // server
  kMapSegment = 4,          // client: a source segment's fd, please
  kSegment = 5,             // server (with the fd)
  kSegmentRetired = 6,      // server, notice: let your mapping of it go
  kRead = 7,                // client, on a data connection: send these spans
  kReading = 8,             // server: so many bytes follow this frame, then kReadEnd
  kReadEnd = 9,             // server: was every byte still good when it was sent?
  kFailure = 10,            // server: the answer to any request that failed
  kLocate = 11,             // client: where in device memory are the bytes of this slot?
  kLocated = 12,            // server
  kDescribeDevice = 13,     // client: how does HIXL reach this device of yours?
  kDeviceDescription = 14,  // server
  kCheck = 15,              // client: are these slots still live?
  kChecked = 16,            // server: all of them were; otherwise kFailure answers
  kAwaitRecall = 17,        // client: I may be linked to this engine of yours; answer when I am to take the link down
  kRecalled = 18,           // server
  kReleaseDevice = 19,      // client: I have no link to this engine of yours any more
  kReleased = 20,           // server
  kCannotLink = 21,         // client: HIXL refuses to link me to this engine of yours
  kNoted = 22,              // server: it is replaced, or not
  kStage = 23,              // client: copy these bytes of devices to where I can map them; and I am done with these parts
  kStaged = 24,             // server: a part is lent to you there
};

// "resolve", "reading", ...; "unknown" for values outside the list.
[[nodiscard]] std::string_view message_name(MessageType type);
[[nodiscard]] bool is_known(MessageType type);
// Why a request of a type that is not in the list has no answer (kNotAvailable).
[[nodiscard]] Status unknown_request(MessageType type);

inline constexpr std::size_t kFrameHeaderBytes = 16;
inline constexpr std::size_t kLongestFrame = std::size_t{64} << 20;         // header and body
inline constexpr std::size_t kLongestUnknownFrame = std::size_t{64} << 10;  // of a type that this version does not know
inline constexpr std::size_t kMostDescriptors = 16;                         // that one frame announces
inline constexpr std::uint32_t kDevices = 1u << 16;                         // device indices are below

struct Frame {
  MessageType type{};
  std::uint64_t request = 0;
  std::uint16_t descriptors = 0;  // file descriptors that come with its first byte
  ByteView bytes;                 // header and body
  ByteView body;
};
// The fields of a header, as they are. Nullopt while it is not complete.
struct FrameHeader {
  std::uint32_t size = 0;
  MessageType type{};
  std::uint16_t descriptors = 0;
  std::uint64_t request = 0;
};
[[nodiscard]] std::optional<FrameHeader> read_header(ByteView bytes);
// How long a frame of this type, or of any, may be that a client sends over its control connection: what is no request of this version is
// answered too, but not kept at any length.
[[nodiscard]] std::size_t longest_request(MessageType type);
[[nodiscard]] std::size_t longest_request();
// The first frame of `bytes`; nullopt while it is not complete. A size or a number of descriptors that no message of that type has:
// kInvalidArgument, as soon as the header is there. Frames of unknown types are frames, too, of at most kLongestUnknownFrame bytes.
[[nodiscard]] Result<std::optional<Frame>> next_frame(ByteView bytes);

struct TransportInfo {
  TransportKind kind{};
  std::vector<std::byte> details;  // the transport's own describe(); opaque here
};
struct Welcome {
  std::uint32_t pid = 0;
  std::uint32_t uid = 0;
  Capabilities capabilities = kOwnCapabilities;  // the server's
  bool has_generations = false;                  // its descriptor comes with the frame
  std::vector<TransportInfo> transports;         // decode leaves out kinds that this version does not know
  static constexpr std::size_t kMostTransports = 16;
  static constexpr std::size_t kLongestDetails = std::size_t{64} << 10;
};

struct Resolve {
  Handle handle;
};
struct RemoteRange {
  std::uint64_t address = 0;  // in the owner
  std::uint64_t length = 0;
};
struct RemoteSegment {
  std::uint32_t id = 0;
  std::uint64_t base = 0;  // address in the owner
  std::uint64_t length = 0;
};
struct Resolved {
  std::vector<RemoteRange> ranges;      // in the slot's order
  std::vector<RemoteSegment> segments;  // the source segments that hold some of them
  static constexpr std::size_t kMostRanges = std::size_t{1} << 21;
  static constexpr std::size_t kMostSegments = std::size_t{1} << 20;
};

struct MapSegment {
  std::uint32_t id = 0;
};
struct Segment {
  std::uint64_t length = 0;
};
struct SegmentRetired {
  std::uint32_t id = 0;
};

struct ReadSpan {
  Handle handle;
  std::uint64_t offset = 0;  // into the slot's byte space
  std::uint64_t length = 0;
};
struct Read {
  std::vector<ReadSpan> spans;  // sent back to back, in this order
  static constexpr std::size_t kMostSpans = std::size_t{1} << 20;
};
struct Reading {
  std::uint64_t bytes = 0;
};
struct ReadEnd {
  Status status;
};
struct Failure {
  Status status;  // not ok
};

struct Locate {
  Handle handle;
};
// Bytes of a slot in the memory of one of the owner's devices.
struct DeviceRange {
  std::uint64_t offset = 0;   // into the slot's byte space
  std::uint64_t length = 0;   // not 0
  std::uint32_t device = 0;   // index as the owner sees it
  std::uint64_t epoch = 0;    // the owner's registration epoch from which on peers can reach it
  std::uint64_t address = 0;  // device address in the owner; not 0
};
struct Located {
  std::vector<DeviceRange> ranges;  // by offset, not overlapping; what is in host memory is left out
  static constexpr std::size_t kMostRanges = std::size_t{1} << 20;
};

struct DescribeDevice {
  std::uint32_t device = 0;  // index as the owner sees it
};
struct DeviceDescription {
  std::string engine;                 // HIXL's name of the owner's engine: "ip:port"; not empty, without spaces
  std::uint64_t epoch = 0;            // the owner's registration epoch when it answered
  std::uint32_t physical_device = 0;  // the device's number on its host
  std::string fingerprint;            // options that both sides must agree on
  static constexpr std::size_t kLongestEngine = 128;
  static constexpr std::size_t kLongestFingerprint = 1024;
};

// HIXL's link from the client to an engine of the server: for as long as there may be one the server takes no memory out, and does not
// replace the engine, without asking for it.
struct AwaitRecall {
  std::uint32_t device = 0;
  std::string engine;  // as it was described
};
struct Recalled {};
struct ReleaseDevice {
  std::uint32_t device = 0;
  std::string engine;
};
struct Released {};

// HIXL refuses to link the client to an engine of the server that is there.
struct CannotLink {
  std::uint32_t device = 0;
  std::string engine;
};
struct Noted {
  bool is_replaced = false;  // another engine takes its place: its description is answered once it is there
};

// A part: bytes of devices that the server has copied into a source segment and lends to the client. It is a slot of its own, live for as
// long as they stay there.
struct Stage {
  std::vector<Handle> returned;  // parts that the client has copied out
  std::vector<ReadSpan> spans;   // back to back, in this order; none: nothing is wanted
  static constexpr std::size_t kMostReturned = 64;
  static constexpr std::size_t kMostSpans = 512;
};
struct Staged {
  Handle part;                // zeros, as all that follows, where nothing was wanted
  std::uint32_t segment = 0;  // where it lies,
  std::uint64_t offset = 0;   // at which offset
  std::uint64_t length = 0;   // so much of what was wanted, from its beginning on; the rest is to be asked for again
};

struct Check {
  std::vector<Handle> handles;
  static constexpr std::size_t kMostHandles = std::size_t{1} << 16;
};
struct Checked {};

// REQUIRES: lists no longer than their kMost..., details and texts no longer than their kLongest....
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Welcome& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Resolve& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Resolved& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const MapSegment& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Segment& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const SegmentRetired& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Read& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Reading& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const ReadEnd& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Failure& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Locate& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Located& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const DescribeDevice& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const DeviceDescription& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Check& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Checked& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const AwaitRecall& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Recalled& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const ReleaseDevice& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Released& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const CannotLink& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Noted& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Stage& message);
[[nodiscard]] std::vector<std::byte> encode(std::uint64_t request, const Staged& message);

[[nodiscard]] Result<Welcome> decode_welcome(ByteView body);
[[nodiscard]] Result<Resolve> decode_resolve(ByteView body);
[[nodiscard]] Result<Resolved> decode_resolved(ByteView body);
[[nodiscard]] Result<MapSegment> decode_map_segment(ByteView body);
[[nodiscard]] Result<Segment> decode_segment(ByteView body);
[[nodiscard]] Result<SegmentRetired> decode_segment_retired(ByteView body);
[[nodiscard]] Result<Read> decode_read(ByteView body);
[[nodiscard]] Result<Reading> decode_reading(ByteView body);
// ReadEnd and Failure carry a status as status_codec.h has it.
[[nodiscard]] Result<ReadEnd> decode_read_end(ByteView body);
[[nodiscard]] Result<Failure> decode_failure(ByteView body);
[[nodiscard]] Result<Locate> decode_locate(ByteView body);
[[nodiscard]] Result<Located> decode_located(ByteView body);
[[nodiscard]] Result<DescribeDevice> decode_describe_device(ByteView body);
[[nodiscard]] Result<DeviceDescription> decode_device_description(ByteView body);
[[nodiscard]] Result<Check> decode_check(ByteView body);
[[nodiscard]] Result<Checked> decode_checked(ByteView body);
[[nodiscard]] Result<AwaitRecall> decode_await_recall(ByteView body);
[[nodiscard]] Result<Recalled> decode_recalled(ByteView body);
[[nodiscard]] Result<ReleaseDevice> decode_release_device(ByteView body);
[[nodiscard]] Result<Released> decode_released(ByteView body);
[[nodiscard]] Result<CannotLink> decode_cannot_link(ByteView body);
[[nodiscard]] Result<Noted> decode_noted(ByteView body);
[[nodiscard]] Result<Stage> decode_stage(ByteView body);
[[nodiscard]] Result<Staged> decode_staged(ByteView body);

}  // namespace ray_hixl::control
