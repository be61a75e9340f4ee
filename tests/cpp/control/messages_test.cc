#include "control/messages.h"

#include <gtest/gtest.h>

#include <limits>

#include "documented_bytes.h"

namespace ray_hixl::control {
namespace {

using Bytes = std::vector<std::byte>;

constexpr Handle kHandle{.slot = 7, .generation = 3, .key = 0x1122334455667788};
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

Bytes body_of(const Bytes& frame) { return {frame.begin() + kFrameHeaderBytes, frame.end()}; }

// The body of one message of each type, cut, lengthened: each decoder by name.
struct Decoder {
  std::string name;
  Code (*decode)(ByteView);
};
template <auto kDecode>
Code outcome(ByteView body) {
  return kDecode(body).status().code();
}
const std::vector<Decoder>& decoders() {
  static const std::vector<Decoder> kAll = {
      {"welcome", outcome<decode_welcome>},
      {"resolve", outcome<decode_resolve>},
      {"resolved", outcome<decode_resolved>},
      {"map_segment", outcome<decode_map_segment>},
      {"segment", outcome<decode_segment>},
      {"segment_retired", outcome<decode_segment_retired>},
      {"read", outcome<decode_read>},
      {"reading", outcome<decode_reading>},
      {"read_end", outcome<decode_read_end>},
      {"failure", outcome<decode_failure>},
      {"locate", outcome<decode_locate>},
      {"located", outcome<decode_located>},
      {"describe_device", outcome<decode_describe_device>},
      {"device_description", outcome<decode_device_description>},
      {"check", outcome<decode_check>},
      {"checked", outcome<decode_checked>},
      {"await_recall", outcome<decode_await_recall>},
      {"recalled", outcome<decode_recalled>},
      {"release_device", outcome<decode_release_device>},
      {"released", outcome<decode_released>},
      {"cannot_link", outcome<decode_cannot_link>},
      {"noted", outcome<decode_noted>},
      {"stage", outcome<decode_stage>},
      {"staged", outcome<decode_staged>},
  };
  return kAll;
}

TEST(Messages, a_body_cut_at_any_byte_is_malformed) {
  for (const Decoder& decoder : decoders()) {
    const Bytes body = body_of(documented(decoder.name));
    EXPECT_EQ(decoder.decode(body), Code::kOk) << decoder.name;
    for (std::size_t size = 0; size < body.size(); ++size) {
      EXPECT_EQ(decoder.decode(ByteView(body).first(size)), Code::kInvalidArgument) << decoder.name << " " << size;
    }
  }
}

TEST(Messages, a_body_with_bytes_behind_it_is_malformed) {
  for (const Decoder& decoder : decoders()) {
    Bytes body = body_of(documented(decoder.name));
    body.push_back(std::byte{0});
    EXPECT_EQ(decoder.decode(body), Code::kInvalidArgument) << decoder.name;
  }
}

TEST(Messages, an_error_names_the_message_and_its_size) {
  const Status status = decode_resolve(Bytes(3)).status();
  EXPECT_NE(status.message().find("'resolve' of 3 bytes"), std::string::npos) << status.message();
}

TEST(Messages, welcome_has_the_documented_bytes) {
  Welcome message;
  message.pid = 4242;
  message.uid = 1000;
  message.has_generations = true;
  message.transports = {{TransportKind::kCma, {}}, {TransportKind::kStream, {std::byte{0xaa}, std::byte{0xbb}}}};
  const Bytes frame = encode(0, message);
  EXPECT_EQ(frame, documented("welcome"));
  const Result<Welcome> read = decode_welcome(body_of(frame));
  ASSERT_TRUE(read.is_ok());
  EXPECT_EQ(read->pid, 4242u);
  EXPECT_EQ(read->uid, 1000u);
  EXPECT_TRUE(read->has_generations);
  ASSERT_EQ(read->transports.size(), 2u);
  EXPECT_EQ(read->transports[1].kind, TransportKind::kStream);
  EXPECT_EQ(read->transports[1].details, message.transports[1].details);
}

TEST(Messages, resolve_has_the_documented_bytes) {
  const Bytes frame = encode(9, Resolve{kHandle});
  EXPECT_EQ(frame, documented("resolve"));
  EXPECT_EQ(decode_resolve(body_of(frame))->handle, kHandle);
}

TEST(Messages, resolved_has_the_documented_bytes) {
  Resolved message;
  message.ranges = {{0x7f0000001000, 0x2000}, {0x7f0000100000, 0x10}};
  message.segments = {{5, 0x7f0000000000, 0x200000}};
  const Bytes frame = encode(9, message);
  EXPECT_EQ(frame, documented("resolved"));
  const Result<Resolved> read = decode_resolved(body_of(frame));
  ASSERT_TRUE(read.is_ok());
  ASSERT_EQ(read->ranges.size(), 2u);
  EXPECT_EQ(read->ranges[1].address, 0x7f0000100000u);
  EXPECT_EQ(read->ranges[1].length, 0x10u);
  ASSERT_EQ(read->segments.size(), 1u);
  EXPECT_EQ(read->segments[0].id, 5u);
  EXPECT_EQ(read->segments[0].base, 0x7f0000000000u);
  EXPECT_EQ(read->segments[0].length, 0x200000u);
}

TEST(Messages, segment_messages_have_the_documented_bytes) {
  EXPECT_EQ(encode(10, MapSegment{5}), documented("map_segment"));
  EXPECT_EQ(encode(10, Segment{0x200000}), documented("segment"));
  EXPECT_EQ(encode(0, SegmentRetired{5}), documented("segment_retired"));
  EXPECT_EQ(decode_map_segment(body_of(documented("map_segment")))->id, 5u);
  EXPECT_EQ(decode_segment(body_of(documented("segment")))->length, 0x200000u);
  EXPECT_EQ(decode_segment_retired(body_of(documented("segment_retired")))->id, 5u);
}

TEST(Messages, read_messages_have_the_documented_bytes) {
  EXPECT_EQ(encode(11, Read{{{kHandle, 256, 1024}}}), documented("read"));
  EXPECT_EQ(encode(11, Reading{1024}), documented("reading"));
  EXPECT_EQ(encode(11, ReadEnd{Status::ok()}), documented("read_end"));
  const Result<Read> read = decode_read(body_of(documented("read")));
  ASSERT_TRUE(read.is_ok());
  ASSERT_EQ(read->spans.size(), 1u);
  EXPECT_EQ(read->spans[0].handle, kHandle);
  EXPECT_EQ(read->spans[0].offset, 256u);
  EXPECT_EQ(read->spans[0].length, 1024u);
  EXPECT_EQ(decode_reading(body_of(documented("reading")))->bytes, 1024u);
  EXPECT_TRUE(decode_read_end(body_of(documented("read_end")))->status.is_ok());
}

TEST(Messages, failure_has_the_documented_bytes) {
  const Bytes frame = encode(9, Failure{Status(Code::kInvalidRegion, "no slot 7")});
  EXPECT_EQ(frame, documented("failure"));
  const Result<Failure> read = decode_failure(body_of(frame));
  ASSERT_TRUE(read.is_ok());
  EXPECT_EQ(read->status.code(), Code::kInvalidRegion);
  EXPECT_EQ(read->status.message(), "no slot 7");
}

TEST(Messages, locate_messages_have_the_documented_bytes) {
  EXPECT_EQ(encode(12, Locate{kHandle}), documented("locate"));
  EXPECT_EQ(decode_locate(body_of(documented("locate")))->handle, kHandle);
  EXPECT_EQ(encode(12, Located{{{0, 0x600000, 2, 4, 0x12c1c0000000}, {0x600010, 512, 3, 1, 0x12c1c0000200}}}), documented("located"));
  const Result<Located> located = decode_located(body_of(documented("located")));
  ASSERT_TRUE(located.is_ok());
  ASSERT_EQ(located->ranges.size(), 2u);
  const DeviceRange& range = located->ranges[1];
  EXPECT_EQ(range.offset, 0x600010u);
  EXPECT_EQ(range.length, 512u);
  EXPECT_EQ(range.device, 3u);
  EXPECT_EQ(range.epoch, 1u);
  EXPECT_EQ(range.address, 0x12c1c0000200u);
}

TEST(Messages, device_messages_have_the_documented_bytes) {
  EXPECT_EQ(encode(13, DescribeDevice{2}), documented("describe_device"));
  EXPECT_EQ(decode_describe_device(body_of(documented("describe_device")))->device, 2u);
  EXPECT_EQ(encode(13, DeviceDescription{"10.0.0.7:26000", 4, 6, "hixl 1; hccs"}), documented("device_description"));
  const Result<DeviceDescription> description = decode_device_description(body_of(documented("device_description")));
  ASSERT_TRUE(description.is_ok());
  EXPECT_EQ(description->engine, "10.0.0.7:26000");
  EXPECT_EQ(description->epoch, 4u);
  EXPECT_EQ(description->physical_device, 6u);
  EXPECT_EQ(description->fingerprint, "hixl 1; hccs");
}

TEST(Messages, check_messages_have_the_documented_bytes) {
  const std::vector<Handle> handles = {kHandle, {.slot = 9, .generation = 5, .key = 0x99aabbccddeeff00}};
  EXPECT_EQ(encode(14, Check{handles}), documented("check"));
  EXPECT_EQ(decode_check(body_of(documented("check")))->handles, handles);
  EXPECT_EQ(encode(14, Checked{}), documented("checked"));
  EXPECT_TRUE(decode_checked(body_of(documented("checked"))).is_ok());
}

TEST(Messages, recall_messages_have_the_documented_bytes) {
  EXPECT_EQ(encode(15, AwaitRecall{2, "10.0.0.7:26000"}), documented("await_recall"));
  const Result<AwaitRecall> awaits = decode_await_recall(body_of(documented("await_recall")));
  ASSERT_TRUE(awaits.is_ok());
  EXPECT_EQ(awaits->device, 2u);
  EXPECT_EQ(awaits->engine, "10.0.0.7:26000");
  EXPECT_EQ(encode(15, Recalled{}), documented("recalled"));
  EXPECT_EQ(encode(16, ReleaseDevice{2, "10.0.0.7:26000"}), documented("release_device"));
  const Result<ReleaseDevice> releases = decode_release_device(body_of(documented("release_device")));
  ASSERT_TRUE(releases.is_ok());
  EXPECT_EQ(releases->device, 2u);
  EXPECT_EQ(releases->engine, "10.0.0.7:26000");
  EXPECT_EQ(encode(16, Released{}), documented("released"));
  EXPECT_EQ(encode(17, CannotLink{2, "10.0.0.7:26000"}), documented("cannot_link"));
  EXPECT_EQ(decode_cannot_link(body_of(documented("cannot_link")))->engine, "10.0.0.7:26000");
  EXPECT_EQ(encode(17, Noted{true}), documented("noted"));
  EXPECT_TRUE(decode_noted(body_of(documented("noted")))->is_replaced);
  EXPECT_FALSE(decode_noted(body_of(encode(1, Noted{false})))->is_replaced);
  EXPECT_FALSE(decode_await_recall(body_of(encode(1, AwaitRecall{0x10000, "a:1"}))).is_ok());
  EXPECT_FALSE(decode_release_device(body_of(encode(1, ReleaseDevice{1, ""}))).is_ok());
  EXPECT_FALSE(decode_release_device(body_of(encode(1, ReleaseDevice{1, "a b"}))).is_ok());
}

TEST(Messages, parts) {
  const Handle slot{7, 3, 0x1122334455667788};
  const Stage stage{{{12, 9, 0x8877665544332211}}, {{slot, 256, 1024}, {slot, 4096, 2048}}};
  EXPECT_EQ(encode(18, stage), documented("stage"));
  const Result<Stage> wanted = decode_stage(body_of(documented("stage")));
  ASSERT_TRUE(wanted.is_ok());
  EXPECT_EQ(wanted->returned, stage.returned);
  EXPECT_EQ(wanted->spans.at(1).offset, 4096u);
  const Staged staged{{13, 5, 0xffeeddccbbaa9988}, 5, 1 << 20, 3072};
  EXPECT_EQ(encode(18, staged), documented("staged"));
  EXPECT_EQ(decode_staged(body_of(documented("staged")))->length, 3072u);
  EXPECT_TRUE(decode_stage(body_of(encode(1, Stage{}))).is_ok());
  EXPECT_TRUE(decode_stage(body_of(encode(1, Stage{std::vector<Handle>(64), std::vector<ReadSpan>(512)}))).is_ok());
  EXPECT_FALSE(decode_stage(body_of(encode(1, Stage{std::vector<Handle>(65), {}}))).is_ok());
  EXPECT_FALSE(decode_stage(body_of(encode(1, Stage{{}, std::vector<ReadSpan>(513)}))).is_ok());
  EXPECT_FALSE(decode_stage(body_of(encode(1, Stage{{}, {{slot, 1, UINT64_MAX}}}))).is_ok());
  EXPECT_FALSE(decode_staged(body_of(encode(1, Staged{slot, 1, UINT64_MAX, 1}))).is_ok());
}

TEST(Messages, a_failure_that_is_no_failure_is_malformed) {
  EXPECT_EQ(decode_failure(body_of(documented("read_end"))).status().code(), Code::kInvalidArgument);
}

TEST(Messages, read_end_carries_an_error) {
  const Result<ReadEnd> read = decode_read_end(body_of(encode(1, ReadEnd{Status(Code::kObjectFreed, "gone")})));
  ASSERT_TRUE(read.is_ok());
  EXPECT_EQ(read->status.code(), Code::kObjectFreed);
  EXPECT_EQ(read->status.message(), "gone");
}

TEST(Messages, empty_lists_are_allowed) {
  EXPECT_TRUE(decode_welcome(body_of(encode(0, Welcome{})))->transports.empty());
  EXPECT_TRUE(decode_resolved(body_of(encode(1, Resolved{})))->ranges.empty());
  EXPECT_TRUE(decode_read(body_of(encode(1, Read{})))->spans.empty());
  EXPECT_TRUE(decode_located(body_of(encode(1, Located{})))->ranges.empty());
  EXPECT_TRUE(decode_check(body_of(encode(1, Check{})))->handles.empty());
}

// That no memory is reserved for such a count is watched by the fuzz driver.
TEST(Messages, a_huge_count_in_a_short_body_is_malformed) {
  for (const std::uint32_t count : {2u, 1000u, 0x7fffffffu, 0xffffffffu}) {
    ByteWriter read;
    read.u32(count);
    read.bytes(Bytes(36));
    EXPECT_EQ(decode_read(read.view()).status().code(), Code::kInvalidArgument) << count;
    ByteWriter ranges;
    ranges.u32(count);
    ranges.u32(0);
    ranges.bytes(Bytes(16));
    EXPECT_EQ(decode_resolved(ranges.view()).status().code(), Code::kInvalidArgument) << count;
    ByteWriter segments;
    segments.u32(0);
    segments.u32(count);
    segments.bytes(Bytes(20));
    EXPECT_EQ(decode_resolved(segments.view()).status().code(), Code::kInvalidArgument) << count;
    ByteWriter located;
    located.u32(count);
    located.bytes(Bytes(36, std::byte{1}));
    EXPECT_EQ(decode_located(located.view()).status().code(), Code::kInvalidArgument) << count;
    ByteWriter check;
    check.u32(count);
    check.bytes(Bytes(20));
    EXPECT_EQ(decode_check(check.view()).status().code(), Code::kInvalidArgument) << count;
  }
}

TEST(Messages, lists_longer_than_allowed_are_malformed_even_when_all_bytes_are_there) {
  ByteWriter read;
  read.u32(Read::kMostSpans + 1);
  read.bytes(Bytes((Read::kMostSpans + 1) * 36));
  EXPECT_EQ(decode_read(read.view()).status().code(), Code::kInvalidArgument);
  ByteWriter resolved;
  resolved.u32(0);
  resolved.u32(Resolved::kMostSegments + 1);
  resolved.bytes(Bytes((Resolved::kMostSegments + 1) * 20));
  EXPECT_EQ(decode_resolved(resolved.view()).status().code(), Code::kInvalidArgument);
  Located located;
  for (std::uint64_t i = 0; i < Located::kMostRanges; ++i) located.ranges.push_back({i, 1, 0, 0, 1});
  EXPECT_EQ(decode_located(body_of(encode(1, located)))->ranges.size(), Located::kMostRanges);
  located.ranges.push_back({Located::kMostRanges, 1, 0, 0, 1});
  EXPECT_EQ(decode_located(body_of(encode(1, located))).status().code(), Code::kInvalidArgument);
  EXPECT_TRUE(decode_check(body_of(encode(1, Check{std::vector<Handle>(Check::kMostHandles)}))).is_ok());
  EXPECT_FALSE(decode_check(body_of(encode(1, Check{std::vector<Handle>(Check::kMostHandles + 1)}))).is_ok());
  Welcome welcome;
  welcome.transports.resize(Welcome::kMostTransports + 1);
  EXPECT_EQ(decode_welcome(body_of(encode(0, welcome))).status().code(), Code::kInvalidArgument);
  welcome.transports.resize(1);
  welcome.transports[0].details.resize(Welcome::kLongestDetails);
  EXPECT_TRUE(decode_welcome(body_of(encode(0, welcome))).is_ok());
  welcome.transports[0].details.resize(Welcome::kLongestDetails + 1);
  EXPECT_EQ(decode_welcome(body_of(encode(0, welcome))).status().code(), Code::kInvalidArgument);
}

TEST(Messages, starts_and_lengths_that_overflow_are_malformed) {
  EXPECT_FALSE(decode_read(body_of(encode(1, Read{{{kHandle, kHuge, 1}}}))).is_ok());
  EXPECT_FALSE(decode_read(body_of(encode(1, Read{{{kHandle, 1, kHuge}}}))).is_ok());
  EXPECT_TRUE(decode_read(body_of(encode(1, Read{{{kHandle, kHuge, 0}}}))).is_ok());
  EXPECT_FALSE(decode_resolved(body_of(encode(1, Resolved{{{kHuge - 9, 10}}, {}}))).is_ok());
  EXPECT_FALSE(decode_resolved(body_of(encode(1, Resolved{{}, {{1, 0x1000, kHuge}}}))).is_ok());
}

TEST(Messages, lengths_whose_sum_overflows_are_malformed) {
  const ReadSpan half{kHandle, 0, kHuge / 2 + 1};
  EXPECT_TRUE(decode_read(body_of(encode(1, Read{{half}}))).is_ok());
  EXPECT_FALSE(decode_read(body_of(encode(1, Read{{half, half}}))).is_ok());
  const RemoteRange range{0, kHuge / 2 + 1};
  EXPECT_FALSE(decode_resolved(body_of(encode(1, Resolved{{range, range}, {}}))).is_ok());
}

TEST(Messages, a_transport_that_this_version_does_not_know_is_left_out_of_a_welcome) {
  Bytes body = body_of(documented("welcome"));
  body[18] = std::byte{200};  // cma
  const Result<Welcome> read = decode_welcome(body);
  ASSERT_TRUE(read.is_ok());
  ASSERT_EQ(read->transports.size(), 1u);
  EXPECT_EQ(read->transports[0].kind, TransportKind::kStream);
}

TEST(Messages, a_welcome_carries_capabilities_whether_they_are_known_or_not) {
  Welcome message;
  message.capabilities = 0x8000'0000'0000'0001;
  EXPECT_EQ(decode_welcome(body_of(encode(0, message)))->capabilities, 0x8000'0000'0000'0001u);
}

TEST(Messages, a_flag_that_is_neither_zero_nor_one_is_malformed) {
  Bytes body = body_of(documented("welcome"));
  body[16] = std::byte{2};
  EXPECT_FALSE(decode_welcome(body).is_ok());
}

bool is_good(const std::vector<DeviceRange>& ranges) { return decode_located(body_of(encode(1, Located{ranges}))).is_ok(); }

TEST(Messages, device_ranges_are_by_offset_and_do_not_overlap) {
  const DeviceRange first{100, 50, 0, 0, 1};
  EXPECT_TRUE(is_good({first, {150, 1, 1, 0, 1}})) << "side by side";
  EXPECT_TRUE(is_good({first, {1000, 1, 0, 0, 1}})) << "with host memory between them";
  EXPECT_FALSE(is_good({first, {149, 1, 0, 0, 1}}));
  EXPECT_FALSE(is_good({first, {100, 50, 0, 0, 1}}));
  EXPECT_FALSE(is_good({first, {0, 50, 0, 0, 1}}));
  EXPECT_TRUE(is_good({first, {150, 50, 0, 0, 1}, {200, 50, 0, 0, 1}})) << "one address twice";
}

TEST(Messages, device_ranges_have_bytes_and_an_address) {
  EXPECT_TRUE(is_good({{0, 1, 0, 0, 1}}));
  EXPECT_FALSE(is_good({{0, 0, 0, 0, 1}}));
  EXPECT_FALSE(is_good({{0, 1, 0, 0, 0}}));
}

TEST(Messages, device_ranges_that_overflow_are_malformed) {
  EXPECT_TRUE(is_good({{kHuge - 10, 10, 0, kHuge, kHuge - 10}}));
  EXPECT_FALSE(is_good({{kHuge - 10, 11, 0, 0, 1}}));
  EXPECT_FALSE(is_good({{0, 11, 0, 0, kHuge - 10}}));
  EXPECT_FALSE(is_good({{1, kHuge, 0, 0, 1}}));
  EXPECT_FALSE(is_good({{kHuge - 10, 11, 0, 0, 1}, {1, 1, 0, 0, 1}})) << "an end that wrapped around is no end";
}

TEST(Messages, a_device_that_no_machine_has_is_malformed) {
  EXPECT_TRUE(is_good({{0, 1, 0xffff, 0, 1}}));
  EXPECT_FALSE(is_good({{0, 1, 0x10000, 0, 1}}));
  EXPECT_TRUE(decode_describe_device(body_of(encode(1, DescribeDevice{0xffff}))).is_ok());
  EXPECT_FALSE(decode_describe_device(body_of(encode(1, DescribeDevice{0x10000}))).is_ok());
  EXPECT_FALSE(decode_describe_device(body_of(encode(1, DescribeDevice{0xffffffff}))).is_ok());
}

bool is_good(const std::string& engine, const std::string& fingerprint) {
  return decode_device_description(body_of(encode(1, DeviceDescription{engine, 0, 0, fingerprint}))).is_ok();
}

TEST(Messages, texts_of_a_device_description_are_short) {
  EXPECT_TRUE(is_good(std::string(128, 'x'), std::string(1024, 'x')));
  EXPECT_FALSE(is_good(std::string(129, 'x'), ""));
  EXPECT_FALSE(is_good("x", std::string(1025, 'x')));
  EXPECT_FALSE(is_good("", "x")) << "a device without an engine is described by a failure";
  EXPECT_TRUE(is_good("x", "")) << "no options";
}

TEST(Messages, texts_of_a_device_description_are_printable) {
  EXPECT_TRUE(is_good("[fe80::1%eth0]:26000", "a=1; b=~"));
  EXPECT_FALSE(is_good("10.0.0.7 :1", ""));
  for (const std::string bad : {"a\nb", "a\tb", "a\x1b[2Jb", "a\x7f", "\xc3\xa4", "\xff"}) {
    EXPECT_FALSE(is_good(bad, "")) << bad;
    EXPECT_FALSE(is_good("x", bad)) << bad;
  }
  EXPECT_FALSE(is_good(std::string(1, '\0'), ""));
  EXPECT_FALSE(is_good("x", std::string(1, '\0')));
}

}  // namespace
}  // namespace ray_hixl::control
