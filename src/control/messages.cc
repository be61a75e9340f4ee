// Bodies of the messages: for each a write() and a read(), which mirror each other; encode and decode are the same for all.
#include "control/messages.h"

#include <algorithm>
#include <string>
#include <utility>

#include "control/frame_codec.h"

namespace ray_hixl::control {
namespace {

// False when the sum does not fit.
bool add(std::uint64_t& sum, std::uint64_t value) { return !__builtin_add_overflow(sum, value, &sum); }

// A list's count. Fails if the list is longer than allowed, or than what is left could hold.
std::size_t read_count(ByteReader& reader, std::size_t most, std::size_t bytes_each) {
  const std::size_t count = reader.u32();
  if (count <= most && count <= reader.remaining() / bytes_each) return count;
  reader.fail();
  return 0;
}

// Fails if start + length does not fit, nor the sum of all lengths read so far.
void read_extent(ByteReader& reader, std::uint64_t& start, std::uint64_t& length, std::uint64_t& sum) {
  start = reader.u64();
  length = reader.u64();
  std::uint64_t end = start;
  if (!add(end, length) || !add(sum, length)) reader.fail();
}

// An index of one of the owner's devices.
std::uint32_t read_device(ByteReader& reader) {
  const std::uint32_t device = reader.u32();
  if (device >= kDevices) reader.fail();
  return device;
}

// A text that goes into messages for people: only bytes from `least` on that are printable.
std::string read_printable(ByteReader& reader, std::size_t longest, char least) {
  std::string text = reader.text(longest);
  if (!std::ranges::all_of(text, [least](char c) { return c >= least && c <= '~'; })) reader.fail();
  return text;
}

void write(ByteWriter& writer, const Handle& handle) {
  writer.u32(handle.slot);
  writer.u64(handle.generation);
  writer.u64(handle.key);
}
void read(ByteReader& reader, Handle& handle) {
  handle.slot = reader.u32();
  handle.generation = reader.u64();
  handle.key = reader.u64();
}

void write(ByteWriter& writer, const Welcome& message) {
  writer.u32(message.pid);
  writer.u32(message.uid);
  writer.u64(message.capabilities);
  writer.u8(message.has_generations ? 1 : 0);
  writer.u8(static_cast<std::uint8_t>(message.transports.size()));
  for (const TransportInfo& transport : message.transports) {
    writer.u8(static_cast<std::uint8_t>(transport.kind));
    writer.blob(transport.details);
  }
}
void read(ByteReader& reader, Welcome& message) {
  message.pid = reader.u32();
  message.uid = reader.u32();
  message.capabilities = reader.u64();
  const std::uint8_t has_generations = reader.u8();
  const std::uint8_t count = reader.u8();
  if (has_generations > 1 || count > Welcome::kMostTransports) return reader.fail();
  message.has_generations = has_generations == 1;
  for (std::uint8_t i = 0; i < count && reader.ok(); ++i) {
    const std::uint8_t kind = reader.u8();
    const ByteView details = reader.blob(Welcome::kLongestDetails);
    if (kind < kTransportKinds) message.transports.push_back({static_cast<TransportKind>(kind), {details.begin(), details.end()}});
  }
}

void write(ByteWriter& writer, const Resolve& message) { write(writer, message.handle); }
void read(ByteReader& reader, Resolve& message) { read(reader, message.handle); }

void write(ByteWriter& writer, const Resolved& message) {
  writer.u32(static_cast<std::uint32_t>(message.ranges.size()));
  writer.u32(static_cast<std::uint32_t>(message.segments.size()));
  for (const RemoteRange& range : message.ranges) {
    writer.u64(range.address);
    writer.u64(range.length);
  }
  for (const RemoteSegment& segment : message.segments) {
    writer.u32(segment.id);
    writer.u64(segment.base);
    writer.u64(segment.length);
  }
}
void read(ByteReader& reader, Resolved& message) {
  const std::size_t ranges = read_count(reader, Resolved::kMostRanges, kRangeBytes);
  const std::size_t segments = read_count(reader, Resolved::kMostSegments, kSegmentBytes);
  if (reader.remaining() != ranges * kRangeBytes + segments * kSegmentBytes) return reader.fail();
  std::uint64_t sum = 0;
  message.ranges.resize(ranges);
  for (RemoteRange& range : message.ranges) read_extent(reader, range.address, range.length, sum);
  sum = 0;
  message.segments.resize(segments);
  for (RemoteSegment& segment : message.segments) {
    segment.id = reader.u32();
    read_extent(reader, segment.base, segment.length, sum);
  }
}

void write(ByteWriter& writer, const MapSegment& message) { writer.u32(message.id); }
void read(ByteReader& reader, MapSegment& message) { message.id = reader.u32(); }

void write(ByteWriter& writer, const Segment& message) { writer.u64(message.length); }
void read(ByteReader& reader, Segment& message) { message.length = reader.u64(); }

void write(ByteWriter& writer, const SegmentRetired& message) { writer.u32(message.id); }
void read(ByteReader& reader, SegmentRetired& message) { message.id = reader.u32(); }

void write(ByteWriter& writer, const std::vector<ReadSpan>& spans) {
  for (const ReadSpan& span : spans) {
    write(writer, span.handle);
    writer.u64(span.offset);
    writer.u64(span.length);
  }
}
void read(ByteReader& reader, std::vector<ReadSpan>& spans) {
  std::uint64_t sum = 0;
  for (ReadSpan& span : spans) {
    read(reader, span.handle);
    read_extent(reader, span.offset, span.length, sum);
  }
}

void write(ByteWriter& writer, const Read& message) {
  writer.u32(static_cast<std::uint32_t>(message.spans.size()));
  write(writer, message.spans);
}
void read(ByteReader& reader, Read& message) {
  message.spans.resize(read_count(reader, Read::kMostSpans, kSpanBytes));
  read(reader, message.spans);
}

void write(ByteWriter& writer, const Reading& message) { writer.u64(message.bytes); }
void read(ByteReader& reader, Reading& message) { message.bytes = reader.u64(); }

void write(ByteWriter& writer, const ReadEnd& message) { write_status(writer, message.status); }
void read(ByteReader& reader, ReadEnd& message) { message.status = read_status(reader); }

void write(ByteWriter& writer, const Failure& message) { write_status(writer, message.status); }
void read(ByteReader& reader, Failure& message) {
  message.status = read_status(reader);
  if (message.status.is_ok()) reader.fail();
}

void write(ByteWriter& writer, const Locate& message) { write(writer, message.handle); }
void read(ByteReader& reader, Locate& message) { read(reader, message.handle); }

void write(ByteWriter& writer, const Located& message) {
  writer.u32(static_cast<std::uint32_t>(message.ranges.size()));
  for (const DeviceRange& range : message.ranges) {
    writer.u64(range.offset);
    writer.u64(range.length);
    writer.u32(range.device);
    writer.u64(range.epoch);
    writer.u64(range.address);
  }
}
// Ranges that do not overlap have lengths whose sum fits.
void read(ByteReader& reader, Located& message) {
  message.ranges.resize(read_count(reader, Located::kMostRanges, kDeviceRangeBytes));
  std::uint64_t end = 0;  // of the range before
  for (DeviceRange& range : message.ranges) {
    range.offset = reader.u64();
    range.length = reader.u64();
    range.device = read_device(reader);
    range.epoch = reader.u64();
    range.address = reader.u64();
    std::uint64_t address_end = range.address;
    if (range.offset < end || range.length == 0 || range.address == 0 || !add(address_end, range.length)) reader.fail();
    end = range.offset;
    if (!add(end, range.length)) reader.fail();
    if (!reader.ok()) return;
  }
}

void write(ByteWriter& writer, const DescribeDevice& message) { writer.u32(message.device); }
void read(ByteReader& reader, DescribeDevice& message) { message.device = read_device(reader); }

void write(ByteWriter& writer, const DeviceDescription& message) {
  writer.text(message.engine);
  writer.u64(message.epoch);
  writer.u32(message.physical_device);
  writer.text(message.fingerprint);
}
void read(ByteReader& reader, DeviceDescription& message) {
  message.engine = read_printable(reader, DeviceDescription::kLongestEngine, '!');
  if (message.engine.empty()) reader.fail();
  message.epoch = reader.u64();
  message.physical_device = reader.u32();
  message.fingerprint = read_printable(reader, DeviceDescription::kLongestFingerprint, ' ');
}

void write(ByteWriter& writer, const Check& message) {
  writer.u32(static_cast<std::uint32_t>(message.handles.size()));
  for (const Handle& handle : message.handles) write(writer, handle);
}
void read(ByteReader& reader, Check& message) {
  message.handles.resize(read_count(reader, Check::kMostHandles, kHandleBytes));
  for (Handle& handle : message.handles) read(reader, handle);
}

void write(ByteWriter&, const Checked&) {}
void read(ByteReader&, Checked&) {}

// A device, and HIXL's name of the engine there.
template <class Message>
void write_engine(ByteWriter& writer, const Message& message) {
  writer.u32(message.device);
  writer.text(message.engine);
}
template <class Message>
void read_engine(ByteReader& reader, Message& message) {
  message.device = read_device(reader);
  message.engine = read_printable(reader, DeviceDescription::kLongestEngine, '!');
  if (message.engine.empty()) reader.fail();
}

void write(ByteWriter& writer, const AwaitRecall& message) { write_engine(writer, message); }
void read(ByteReader& reader, AwaitRecall& message) { read_engine(reader, message); }
void write(ByteWriter&, const Recalled&) {}
void read(ByteReader&, Recalled&) {}
void write(ByteWriter& writer, const ReleaseDevice& message) { write_engine(writer, message); }
void read(ByteReader& reader, ReleaseDevice& message) { read_engine(reader, message); }
void write(ByteWriter&, const Released&) {}
void read(ByteReader&, Released&) {}
void write(ByteWriter& writer, const CannotLink& message) { write_engine(writer, message); }
void read(ByteReader& reader, CannotLink& message) { read_engine(reader, message); }
void write(ByteWriter& writer, const Noted& message) { writer.u8(message.is_replaced ? 1 : 0); }
void read(ByteReader& reader, Noted& message) {
  const std::uint8_t is_replaced = reader.u8();
  if (is_replaced > 1) reader.fail();
  message.is_replaced = is_replaced == 1;
}

void write(ByteWriter& writer, const Stage& message) {
  writer.u32(static_cast<std::uint32_t>(message.returned.size()));
  writer.u32(static_cast<std::uint32_t>(message.spans.size()));
  for (const Handle& part : message.returned) write(writer, part);
  write(writer, message.spans);
}
void read(ByteReader& reader, Stage& message) {
  const std::size_t returned = read_count(reader, Stage::kMostReturned, kHandleBytes);
  const std::size_t spans = read_count(reader, Stage::kMostSpans, kSpanBytes);
  if (reader.remaining() != returned * kHandleBytes + spans * kSpanBytes) return reader.fail();
  message.returned.resize(returned);
  for (Handle& part : message.returned) read(reader, part);
  message.spans.resize(spans);
  read(reader, message.spans);
}

void write(ByteWriter& writer, const Staged& message) {
  write(writer, message.part);
  writer.u32(message.segment);
  writer.u64(message.offset);
  writer.u64(message.length);
}
void read(ByteReader& reader, Staged& message) {
  read(reader, message.part);
  message.segment = reader.u32();
  std::uint64_t sum = 0;
  read_extent(reader, message.offset, message.length, sum);
}

// How many descriptors come with a message.
template <class Message>
std::uint16_t descriptors_of(const Message&) {
  return 0;
}
std::uint16_t descriptors_of(const Welcome& message) { return message.has_generations ? 1 : 0; }
std::uint16_t descriptors_of(const Segment&) { return 1; }

template <class Message>
std::vector<std::byte> make_frame(MessageType type, std::uint64_t request, const Message& message) {
  ByteWriter writer = begin_frame(type, request, descriptors_of(message));
  write(writer, message);
  return end_frame(std::move(writer));
}

template <class Message>
Result<Message> parse(MessageType type, ByteView body) {
  ByteReader reader(body);
  Message message;
  read(reader, message);
  if (reader.at_end()) return message;
  return Status(Code::kInvalidArgument, "malformed message '" + std::string(message_name(type)) + "' of " + std::to_string(body.size()) +
                                            " bytes; the peer is no ray-hixl engine of this version");
}

}  // namespace

std::vector<std::byte> encode(std::uint64_t request, const Welcome& message) { return make_frame(MessageType::kWelcome, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Resolve& message) { return make_frame(MessageType::kResolve, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Resolved& message) {
  return make_frame(MessageType::kResolved, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const MapSegment& message) {
  return make_frame(MessageType::kMapSegment, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const Segment& message) { return make_frame(MessageType::kSegment, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const SegmentRetired& message) {
  return make_frame(MessageType::kSegmentRetired, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const Read& message) { return make_frame(MessageType::kRead, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Reading& message) { return make_frame(MessageType::kReading, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const ReadEnd& message) { return make_frame(MessageType::kReadEnd, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Failure& message) { return make_frame(MessageType::kFailure, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Locate& message) { return make_frame(MessageType::kLocate, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Located& message) { return make_frame(MessageType::kLocated, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const DescribeDevice& message) {
  return make_frame(MessageType::kDescribeDevice, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const DeviceDescription& message) {
  return make_frame(MessageType::kDeviceDescription, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const Check& message) { return make_frame(MessageType::kCheck, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Checked& message) { return make_frame(MessageType::kChecked, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const AwaitRecall& message) {
  return make_frame(MessageType::kAwaitRecall, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const Recalled& message) {
  return make_frame(MessageType::kRecalled, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const ReleaseDevice& message) {
  return make_frame(MessageType::kReleaseDevice, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const Released& message) {
  return make_frame(MessageType::kReleased, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const CannotLink& message) {
  return make_frame(MessageType::kCannotLink, request, message);
}
std::vector<std::byte> encode(std::uint64_t request, const Noted& message) { return make_frame(MessageType::kNoted, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Stage& message) { return make_frame(MessageType::kStage, request, message); }
std::vector<std::byte> encode(std::uint64_t request, const Staged& message) { return make_frame(MessageType::kStaged, request, message); }

Result<Welcome> decode_welcome(ByteView body) { return parse<Welcome>(MessageType::kWelcome, body); }
Result<Resolve> decode_resolve(ByteView body) { return parse<Resolve>(MessageType::kResolve, body); }
Result<Resolved> decode_resolved(ByteView body) { return parse<Resolved>(MessageType::kResolved, body); }
Result<MapSegment> decode_map_segment(ByteView body) { return parse<MapSegment>(MessageType::kMapSegment, body); }
Result<Segment> decode_segment(ByteView body) { return parse<Segment>(MessageType::kSegment, body); }
Result<SegmentRetired> decode_segment_retired(ByteView body) { return parse<SegmentRetired>(MessageType::kSegmentRetired, body); }
Result<Read> decode_read(ByteView body) { return parse<Read>(MessageType::kRead, body); }
Result<Reading> decode_reading(ByteView body) { return parse<Reading>(MessageType::kReading, body); }
Result<ReadEnd> decode_read_end(ByteView body) { return parse<ReadEnd>(MessageType::kReadEnd, body); }
Result<Failure> decode_failure(ByteView body) { return parse<Failure>(MessageType::kFailure, body); }
Result<Locate> decode_locate(ByteView body) { return parse<Locate>(MessageType::kLocate, body); }
Result<Located> decode_located(ByteView body) { return parse<Located>(MessageType::kLocated, body); }
Result<DescribeDevice> decode_describe_device(ByteView body) { return parse<DescribeDevice>(MessageType::kDescribeDevice, body); }
Result<DeviceDescription> decode_device_description(ByteView body) {
  return parse<DeviceDescription>(MessageType::kDeviceDescription, body);
}
Result<Check> decode_check(ByteView body) { return parse<Check>(MessageType::kCheck, body); }
Result<Checked> decode_checked(ByteView body) { return parse<Checked>(MessageType::kChecked, body); }
Result<AwaitRecall> decode_await_recall(ByteView body) { return parse<AwaitRecall>(MessageType::kAwaitRecall, body); }
Result<Recalled> decode_recalled(ByteView body) { return parse<Recalled>(MessageType::kRecalled, body); }
Result<ReleaseDevice> decode_release_device(ByteView body) { return parse<ReleaseDevice>(MessageType::kReleaseDevice, body); }
Result<Released> decode_released(ByteView body) { return parse<Released>(MessageType::kReleased, body); }
Result<CannotLink> decode_cannot_link(ByteView body) { return parse<CannotLink>(MessageType::kCannotLink, body); }
Result<Noted> decode_noted(ByteView body) { return parse<Noted>(MessageType::kNoted, body); }
Result<Stage> decode_stage(ByteView body) { return parse<Stage>(MessageType::kStage, body); }
Result<Staged> decode_staged(ByteView body) { return parse<Staged>(MessageType::kStaged, body); }

}  // namespace ray_hixl::control
