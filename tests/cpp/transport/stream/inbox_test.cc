#include "transport/stream/inbox.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace ray_hixl::transport::stream {
namespace {

using Bytes = std::vector<std::byte>;

Bytes read_of(std::size_t spans, std::uint64_t request = 1) {
  control::Read read;
  for (std::size_t i = 0; i < spans; ++i) read.spans.push_back({{1, 2, 3}, i, 1});
  return control::encode(request, read);
}

// Puts bytes in as they would be received, as far as there is room; gives what is left.
ByteView put(Inbox& inbox, ByteView bytes) {
  const std::span<std::byte> room = inbox.room();
  EXPECT_FALSE(room.empty());
  const std::size_t some = std::min(room.size(), bytes.size());
  std::copy_n(bytes.begin(), some, room.begin());
  inbox.received(some);
  return bytes.subspan(some);
}

// The request numbers of all frames in `bytes`, which arrive at most `step` at a time.
std::vector<std::uint64_t> requests_of(const Bytes& bytes, std::size_t step) {
  Inbox inbox({});
  std::vector<std::uint64_t> requests;
  for (ByteView rest = bytes; !rest.empty();) {
    const std::size_t piece = std::min(step, rest.size());
    const ByteView left = put(inbox, rest.first(piece));
    rest = rest.subspan(piece - left.size());
    while (true) {
      const auto taken = inbox.next();
      if (!taken.is_ok() || !*taken) break;
      EXPECT_EQ(control::decode_read((*taken)->frame.body)->spans.back().offset + 1,
                control::decode_read((*taken)->frame.body)->spans.size());
      requests.push_back((*taken)->frame.request);
    }
  }
  EXPECT_TRUE(inbox.empty());
  return requests;
}

TEST(Inbox, gives_whole_frames_however_their_bytes_arrive) {
  Bytes bytes;
  std::vector<std::uint64_t> sent;
  for (const std::size_t spans : {1, 2, 400, 1, 453, 454, 455, 456, 1, 5000, 1, 1000, 1000, 1}) {  // short up to 454
    sent.push_back(sent.size() + 1);
    const Bytes frame = read_of(spans, sent.back());
    bytes.insert(bytes.end(), frame.begin(), frame.end());
  }
  for (const std::size_t step : {1, 7, 100, 4096, 16383, 16384, 1 << 20}) EXPECT_EQ(requests_of(bytes, step), sent) << step;
}

// What one reader sends at once must not be moved again for each of its requests.
TEST(Inbox, leaves_bytes_where_they_are_from_one_frame_to_the_next) {
  const Bytes frame = read_of(1);
  Bytes bytes;
  while (bytes.size() + frame.size() <= Inbox::kShort) bytes.insert(bytes.end(), frame.begin(), frame.end());
  Inbox inbox({});
  ASSERT_TRUE(put(inbox, bytes).empty());
  const std::byte* expected = nullptr;
  for (std::size_t i = 0; i < bytes.size() / frame.size(); ++i) {
    const auto taken = inbox.next();
    ASSERT_TRUE(taken.is_ok() && taken->has_value());
    const std::byte* const body = (*taken)->frame.body.data();
    ASSERT_TRUE(expected == nullptr || body == expected) << "frame " << i << " was moved";
    expected = body + frame.size();
  }
  EXPECT_TRUE(inbox.empty());
}

TEST(Inbox, receives_a_long_frame_straight_into_memory_of_its_own) {
  const Bytes frame = read_of(10000);
  Inbox inbox(ByteView(frame).first(20));
  auto taken = inbox.next();
  for (ByteView rest = ByteView(frame).subspan(20); taken.is_ok() && !*taken; taken = inbox.next()) {
    EXPECT_LE(inbox.room().size(), rest.size()) << "nothing of the next one";
    rest = put(inbox, rest);
  }
  ASSERT_TRUE(taken.is_ok());
  ASSERT_TRUE((*taken)->memory);
  put(inbox, read_of(1, 2));
  EXPECT_EQ((*inbox.next())->frame.request, 2u);
  EXPECT_TRUE(std::ranges::equal((*taken)->frame.body, ByteView(frame).subspan(control::kFrameHeaderBytes))) << "for as long as it is kept";
}

TEST(Inbox, takes_no_memory_for_a_length_that_is_only_named) {
  Bytes frame = read_of(control::Read::kMostSpans);  // 37 MB
  frame.resize(Inbox::kShort);
  Inbox inbox(frame);
  ASSERT_TRUE(inbox.next().is_ok());
  std::size_t received = frame.size();
  for (int step = 0; step < 4; ++step) {
    EXPECT_LE(inbox.room().size(), std::max<std::size_t>(4 * Inbox::kShort, received));
    received += inbox.room().size();
    inbox.received(inbox.room().size());
    ASSERT_TRUE(inbox.next().is_ok());
  }
}

TEST(Inbox, refuses_what_is_no_frame_at_its_header) {
  Inbox inbox({});
  put(inbox, Bytes(control::kFrameHeaderBytes));
  EXPECT_EQ(inbox.next().status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace ray_hixl::transport::stream
