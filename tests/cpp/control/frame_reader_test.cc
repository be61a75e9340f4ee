#include "control/frame_reader.h"

#include <fcntl.h>
#include <gtest/gtest.h>

namespace ray_hixl::control {
namespace {

using Bytes = std::vector<std::byte>;

const Bytes kSegment = encode(1, Segment{4096});  // announces one descriptor
const Bytes kPlain = encode(2, Reading{1});       // announces none

// Files, to be told apart by their number.
std::vector<Fd> files(std::size_t count) {
  std::vector<Fd> made;
  while (made.size() < count) made.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  return made;
}

Bytes operator+(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

// A connection's input, and what the reader makes of it.
class FrameReaderTest : public testing::Test {
 protected:
  // `bytes` arrive in one piece with some descriptors. Takes every whole frame.
  Status arrive(ByteView bytes, std::vector<Fd> fds = {}, bool lost = false) {
    input.insert(input.end(), bytes.begin(), bytes.end());
    RAY_HIXL_RETURN_IF_ERROR(reader.arrived(input, bytes.size(), std::move(fds), lost));
    while (true) {
      Result<std::optional<FrameReader::Received>> next = reader.next();
      if (!next.is_ok()) return next.status();
      if (!*next) break;
      frames.emplace_back((*next)->frame.type, (*next)->descriptors.size(), (*next)->descriptors_lost);
    }
    input.erase(input.begin(), input.begin() + static_cast<std::ptrdiff_t>(reader.consumed()));
    return Status::ok();
  }

  using Seen = std::tuple<MessageType, std::size_t, bool>;
  FrameReader reader;
  Bytes input;
  std::vector<Seen> frames;
  const Seen segment{MessageType::kSegment, 1, false};
  const Seen plain{MessageType::kReading, 0, false};
};

TEST_F(FrameReaderTest, gives_a_frame_the_descriptors_that_came_with_it) {
  EXPECT_TRUE(arrive(kSegment, files(1)).is_ok());
  EXPECT_EQ(frames, (std::vector<Seen>{segment}));
}

TEST_F(FrameReaderTest, finds_the_frame_behind_those_that_announce_none) {
  EXPECT_TRUE(arrive(kPlain + kPlain + kSegment, files(1)).is_ok());
  EXPECT_EQ(frames, (std::vector<Seen>{plain, plain, segment}));
}

TEST_F(FrameReaderTest, keeps_descriptors_until_their_frame_is_complete) {
  for (std::size_t cut = 1; cut < kSegment.size(); ++cut) {
    frames.clear();
    EXPECT_TRUE(arrive(ByteView(kSegment).first(cut), files(1)).is_ok()) << cut;
    EXPECT_TRUE(arrive(ByteView(kSegment).subspan(cut)).is_ok()) << cut;
    EXPECT_EQ(frames, (std::vector<Seen>{segment})) << cut;
  }
}

// The kernel ends a piece behind the bytes that descriptors came with, so it may begin in the middle of one frame and end in that of
// another.
TEST_F(FrameReaderTest, tells_the_descriptors_of_two_frames_apart) {
  for (std::size_t first = 1; first < kSegment.size(); ++first) {
    for (std::size_t second = 1; second < kSegment.size(); ++second) {
      frames.clear();
      EXPECT_TRUE(arrive(kPlain + Bytes(kSegment.begin(), kSegment.begin() + first), files(1)).is_ok());
      EXPECT_TRUE(
          arrive(Bytes(kSegment.begin() + first, kSegment.end()) + Bytes(kSegment.begin(), kSegment.begin() + second), files(1)).is_ok());
      EXPECT_TRUE(arrive(ByteView(kSegment).subspan(second)).is_ok());
      EXPECT_EQ(frames, (std::vector<Seen>{plain, segment, segment})) << first << " " << second;
    }
  }
}

TEST_F(FrameReaderTest, refuses_descriptors_that_no_frame_announces) { EXPECT_EQ(arrive(kPlain, files(1)).code(), Code::kInvalidArgument); }

TEST_F(FrameReaderTest, refuses_descriptors_in_the_middle_of_a_frame) {
  EXPECT_TRUE(arrive(ByteView(kSegment).first(1)).is_ok());
  EXPECT_EQ(arrive(ByteView(kSegment).subspan(1), files(1)).code(), Code::kInvalidArgument);
}

// One byte at a time, each with as many as fit: nothing piles up.
TEST_F(FrameReaderTest, refuses_descriptors_beside_those_of_a_frame_whose_header_is_not_complete) {
  EXPECT_TRUE(arrive(ByteView(kSegment).first(1), files(1)).is_ok());
  EXPECT_EQ(arrive(ByteView(kSegment).subspan(1, 1), files(1)).code(), Code::kInvalidArgument);
}

TEST_F(FrameReaderTest, refuses_more_or_fewer_than_announced) { EXPECT_EQ(arrive(kSegment, files(2)).code(), Code::kInvalidArgument); }

TEST_F(FrameReaderTest, refuses_a_frame_without_the_descriptor_that_it_announces) {
  EXPECT_EQ(arrive(kSegment).code(), Code::kInvalidArgument);
}

TEST_F(FrameReaderTest, says_which_frame_lost_its_descriptors) {
  EXPECT_TRUE(arrive(kPlain + kSegment, {}, true).is_ok());
  EXPECT_EQ(frames, (std::vector<Seen>{plain, {MessageType::kSegment, 0, true}}));
}

TEST_F(FrameReaderTest, ties_descriptors_to_unknown_frames_too) {
  Bytes unknown = encode(0, Reading{1});
  unknown[4] = std::byte{99};
  unknown[6] = std::byte{3};
  EXPECT_TRUE(arrive(unknown, files(3)).is_ok());
  EXPECT_EQ(frames, (std::vector<Seen>{{static_cast<MessageType>(99), 3, false}}));
}

TEST_F(FrameReaderTest, knows_how_long_a_frame_will_be_once_its_header_is_there) {
  EXPECT_TRUE(arrive(kPlain + Bytes(kSegment.begin(), kSegment.begin() + kFrameHeaderBytes - 1), files(1)).is_ok());
  EXPECT_EQ(reader.awaited(), 0u);
  EXPECT_TRUE(arrive(Bytes(kSegment.begin() + kFrameHeaderBytes - 1, kSegment.end() - 1)).is_ok());
  EXPECT_EQ(reader.awaited(), kSegment.size());
}

TEST_F(FrameReaderTest, says_whether_a_frame_is_all_there_is) {
  const auto shown_as_alone = [&](const Bytes& bytes) {
    EXPECT_TRUE(reader.arrived(bytes, bytes.size(), {}, false).is_ok());
    return (*reader.next())->alone;
  };
  EXPECT_TRUE(shown_as_alone(kPlain));
  EXPECT_FALSE(shown_as_alone(kPlain + kPlain));
}

TEST_F(FrameReaderTest, survives_headers_that_say_anything) { EXPECT_FALSE(arrive(Bytes(100), files(1)).is_ok()); }

}  // namespace
}  // namespace ray_hixl::control
