#include <gtest/gtest.h>

#include "control/messages.h"
#include "documented_bytes.h"

namespace ray_hixl::control {
namespace {

using Bytes = std::vector<std::byte>;

Bytes header(std::uint32_t size, std::uint16_t type, std::uint16_t descriptors = 0) {
  ByteWriter writer;
  writer.u32(size);
  writer.u16(type);
  writer.u16(descriptors);
  writer.u64(1);
  return writer.take();
}

void expect_malformed(const Bytes& bytes, std::string_view why) {
  const Result<std::optional<Frame>> frame = next_frame(bytes);
  ASSERT_FALSE(frame.is_ok());
  EXPECT_EQ(frame.status().code(), Code::kInvalidArgument);
  EXPECT_NE(frame.status().message().find(why), std::string::npos) << frame.status().message();
}

TEST(Frame, is_found_once_it_is_complete) {
  const Bytes whole = documented("resolve");
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Result<std::optional<Frame>> frame = next_frame(ByteView(whole).first(size));
    ASSERT_TRUE(frame.is_ok()) << size;
    EXPECT_FALSE(frame->has_value()) << size;
  }
  const Result<std::optional<Frame>> frame = next_frame(whole);
  ASSERT_TRUE(frame.is_ok());
  ASSERT_TRUE(frame->has_value());
  EXPECT_EQ((*frame)->type, MessageType::kResolve);
  EXPECT_EQ((*frame)->request, 9u);
  EXPECT_EQ((*frame)->bytes.size(), whole.size());
  EXPECT_EQ((*frame)->body.size(), whole.size() - kFrameHeaderBytes);
  EXPECT_EQ((*frame)->body.data(), whole.data() + kFrameHeaderBytes);
}

TEST(Frame, ends_where_the_next_one_begins) {
  Bytes bytes = documented("map_segment");
  const std::size_t first = bytes.size();
  const Bytes second = documented("segment_retired");
  bytes.insert(bytes.end(), second.begin(), second.end());
  EXPECT_EQ((*next_frame(bytes))->bytes.size(), first);
  EXPECT_EQ((*next_frame(ByteView(bytes).subspan(first)))->type, MessageType::kSegmentRetired);
}

TEST(Frame, of_an_unknown_type_is_a_frame_like_any_other) {
  for (const std::uint16_t type : {0, 25, 0xffff}) {
    Bytes bytes = header(20, type, 16);
    EXPECT_FALSE(next_frame(bytes)->has_value());
    bytes.resize(24);
    const Frame frame = **next_frame(bytes);
    EXPECT_EQ(static_cast<std::uint16_t>(frame.type), type);
    EXPECT_EQ(frame.bytes.size(), 20u);
    EXPECT_EQ(frame.request, 1u);
    EXPECT_EQ(frame.descriptors, 16u);
    EXPECT_FALSE(is_known(frame.type));
  }
  EXPECT_TRUE(is_known(MessageType::kStaged));
}

TEST(Frame, of_an_unknown_type_is_bounded) {
  EXPECT_TRUE(next_frame(header(kFrameHeaderBytes, 25)).is_ok());
  EXPECT_TRUE(next_frame(header(kLongestUnknownFrame, 25)).is_ok());
  expect_malformed(header(kLongestUnknownFrame + 1, 25), "unknown");
  expect_malformed(header(kFrameHeaderBytes - 1, 25), "unknown");
  expect_malformed(header(kFrameHeaderBytes, 25, 17), "17 descriptors");
}

TEST(Frame, of_a_size_that_its_message_cannot_have_is_refused_at_its_header) {
  expect_malformed(header(0, 2), "resolve");
  expect_malformed(header(15, 2), "resolve");
  expect_malformed(header(kFrameHeaderBytes + 19, 2), "resolve");
  expect_malformed(header(kFrameHeaderBytes + 21, 2), "resolve");
  expect_malformed(header(kFrameHeaderBytes + 4100, 10), "failure");
  expect_malformed(header(kFrameHeaderBytes + 19, 11), "locate");
  expect_malformed(header(kFrameHeaderBytes + 5, 13), "describe_device");
  expect_malformed(header(kFrameHeaderBytes + 16, 14), "device_description");
  expect_malformed(header(kFrameHeaderBytes + 16 + 128 + 1024 + 1, 14), "device_description");
  EXPECT_TRUE(next_frame(header(kFrameHeaderBytes + 16 + 128 + 1024, 14)).is_ok());
  EXPECT_TRUE(next_frame(header(kFrameHeaderBytes, 16)).is_ok());
  expect_malformed(header(kFrameHeaderBytes + 1, 16), "checked");
}

TEST(Frame, longer_than_the_longest_is_refused_at_its_header) {
  for (std::uint16_t type = 1; type <= 20; ++type) {
    expect_malformed(header(kLongestFrame + 1, type), "cannot have");
    expect_malformed(header(0xffffffff, type), "cannot have");
  }
}

TEST(Frame, announces_no_descriptors_but_those_that_its_message_has) {
  expect_malformed(header(kFrameHeaderBytes + 20, 2, 1), "'resolve' cannot come with 1 descriptors");
  expect_malformed(header(kFrameHeaderBytes + 8, 5, 2), "'segment' cannot come with 2 descriptors");
  EXPECT_EQ((*next_frame(documented("segment")))->descriptors, 1u);
  EXPECT_EQ((*next_frame(documented("welcome")))->descriptors, 1u);
  EXPECT_EQ((*next_frame(documented("resolve")))->descriptors, 0u);
}

TEST(Frame, every_message_has_a_name) {
  for (const std::string name :
       {"welcome", "resolve",  "resolved",     "map_segment", "segment",        "segment_retired", "read",
        "reading", "read_end", "failure",      "locate",      "located",        "describe_device", "device_description",
        "check",   "checked",  "await_recall", "recalled",    "release_device", "released",        "cannot_link",
        "noted",   "stage",    "staged"}) {
    const Result<std::optional<Frame>> frame = next_frame(documented(name));
    ASSERT_TRUE(frame.is_ok() && frame->has_value()) << name;
    EXPECT_EQ(message_name((*frame)->type), name);
  }
  EXPECT_EQ(message_name(static_cast<MessageType>(25)), "unknown");
}

TEST(Frame, the_longest_lists_fit_into_one) {
  const std::size_t read = kFrameHeaderBytes + 4 + Read::kMostSpans * 36;
  const std::size_t resolved = kFrameHeaderBytes + 8 + Resolved::kMostRanges * 16 + Resolved::kMostSegments * 20;
  const auto type_of = [](MessageType type) { return static_cast<std::uint16_t>(type); };
  EXPECT_TRUE(next_frame(header(read, type_of(MessageType::kRead))).is_ok());
  expect_malformed(header(read + 1, type_of(MessageType::kRead)), "cannot have");
  EXPECT_TRUE(next_frame(header(resolved, type_of(MessageType::kResolved))).is_ok());
  expect_malformed(header(resolved + 1, type_of(MessageType::kResolved)), "cannot have");
  EXPECT_LE(resolved, kLongestFrame);
  const std::size_t located = kFrameHeaderBytes + 4 + Located::kMostRanges * 36;
  const std::size_t check = kFrameHeaderBytes + 4 + Check::kMostHandles * 20;
  EXPECT_TRUE(next_frame(header(located, type_of(MessageType::kLocated))).is_ok());
  expect_malformed(header(located + 1, type_of(MessageType::kLocated)), "cannot have");
  EXPECT_TRUE(next_frame(header(check, type_of(MessageType::kCheck))).is_ok());
  expect_malformed(header(check + 1, type_of(MessageType::kCheck)), "cannot have");
  EXPECT_LE(located, kLongestFrame);
}

}  // namespace
}  // namespace ray_hixl::control
