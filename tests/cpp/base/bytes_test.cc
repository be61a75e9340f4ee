#include "base/bytes.h"

#include <gtest/gtest.h>

#include <array>
#include <limits>

namespace ray_hixl {
namespace {

constexpr auto kMost = std::numeric_limits<std::uint64_t>::max();

TEST(Bytes, are_little_endian) {
  ByteWriter writer;
  writer.u8(1);
  writer.u16(0x0302);
  writer.u32(0x07060504);
  writer.u64(0x0f0e0d0c0b0a0908);
  const std::vector<std::byte> bytes = writer.take();
  ASSERT_EQ(bytes.size(), 15u);
  for (std::size_t i = 0; i < bytes.size(); ++i) EXPECT_EQ(std::to_integer<std::size_t>(bytes[i]), i + 1);
}

TEST(Bytes, come_back_as_they_were_written) {
  const std::array<std::byte, 3> three = {std::byte{9}, std::byte{8}, std::byte{7}};
  ByteWriter writer;
  writer.u8(255);
  writer.u16(65535);
  writer.u32(0xdeadbeef);
  writer.u64(kMost);
  writer.varint(300);
  writer.bytes(three);
  writer.text("räy");
  writer.blob(three);
  const std::vector<std::byte> bytes = writer.take();
  ByteReader reader(bytes);
  EXPECT_EQ(reader.u8(), 255);
  EXPECT_EQ(reader.u16(), 65535);
  EXPECT_EQ(reader.u32(), 0xdeadbeefu);
  EXPECT_EQ(reader.u64(), kMost);
  EXPECT_EQ(reader.varint(), 300u);
  EXPECT_TRUE(std::ranges::equal(reader.bytes(3), three));
  EXPECT_EQ(reader.text(100), "räy");
  EXPECT_FALSE(reader.at_end());
  EXPECT_TRUE(std::ranges::equal(reader.blob(100), three));
  EXPECT_TRUE(reader.at_end());
}

class Varint : public testing::TestWithParam<std::uint64_t> {};

TEST_P(Varint, comes_back) {
  ByteWriter writer;
  writer.varint(GetParam());
  EXPECT_LE(writer.size(), 10u);
  const std::vector<std::byte> bytes = writer.take();
  ByteReader reader(bytes);
  EXPECT_EQ(reader.varint(), GetParam());
  EXPECT_TRUE(reader.at_end());
}

INSTANTIATE_TEST_SUITE_P(Values, Varint,
                         testing::Values(0, 1, 127, 128, 16383, 16384, std::uint64_t{1} << 32, std::uint64_t{1} << 63, kMost));

TEST(ByteReader, refuses_a_varint_of_more_than_64_bits) {
  std::vector<std::byte> bytes(9, std::byte{0xff});
  bytes.push_back(std::byte{0x02});
  ByteReader too_large(bytes);
  (void)too_large.varint();
  EXPECT_FALSE(too_large.ok());
  const std::vector<std::byte> endless(20, std::byte{0x80});
  ByteReader never_ends(endless);
  (void)never_ends.varint();
  EXPECT_FALSE(never_ends.ok());
}

TEST(ByteReader, gives_zeros_past_the_end_and_stays_failed) {
  const std::array<std::byte, 3> three = {std::byte{1}, std::byte{1}, std::byte{1}};
  ByteReader reader(three);
  EXPECT_EQ(reader.u32(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.u8(), 0);
  EXPECT_TRUE(reader.bytes(1).empty());
  EXPECT_EQ(reader.text(10), "");
  EXPECT_TRUE(reader.blob(10).empty());
  EXPECT_EQ(reader.varint(), 0u);
  EXPECT_FALSE(reader.at_end());
}

TEST(ByteReader, refuses_lengths_above_the_limit_or_the_input) {
  ByteWriter writer;
  writer.text("four");
  const std::vector<std::byte> text = writer.take();
  ByteReader short_limit(text);
  EXPECT_EQ(short_limit.text(3), "");
  EXPECT_FALSE(short_limit.ok());
  writer.u32(0xffffffff);
  const std::vector<std::byte> blob = writer.take();
  ByteReader no_content(blob);
  EXPECT_TRUE(no_content.blob(kMost).empty());
  EXPECT_FALSE(no_content.ok());
}

TEST(ByteWriter, cuts_text_that_its_length_field_cannot_tell) {
  ByteWriter writer;
  writer.text(std::string(70000, 'x'));
  EXPECT_EQ(writer.size(), 2u + 65535u);
}

TEST(ByteWriter, patches_a_length_that_is_known_later) {
  ByteWriter writer;
  writer.u8(1);
  writer.u32(0);
  writer.u8(2);
  writer.patch_u32(1, 77);
  const std::vector<std::byte> bytes = writer.take();
  ByteReader reader(bytes);
  EXPECT_EQ(reader.u8(), 1);
  EXPECT_EQ(reader.u32(), 77u);
  EXPECT_EQ(reader.u8(), 2);
}

}  // namespace
}  // namespace ray_hixl
