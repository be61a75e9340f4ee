#include "control/status_codec.h"

#include <gtest/gtest.h>

#include <string>

namespace ray_hixl::control {
namespace {

Status round_trip(const Status& status) {
  ByteWriter writer;
  write_status(writer, status);
  ByteReader reader(writer.view());
  const Status read = read_status(reader);
  EXPECT_TRUE(reader.at_end());
  return read;
}

// A status as a peer might have written it.
Status read_raw(std::uint8_t code, std::string_view message, bool& ok) {
  ByteWriter writer;
  writer.u8(code);
  writer.text(message);
  ByteReader reader(writer.view());
  const Status status = read_status(reader);
  ok = reader.at_end();
  return status;
}

TEST(StatusCodec, every_code_survives_with_its_message) {
  for (int code = 1; code <= static_cast<int>(Code::kDeviceBusy); ++code) {
    const Status read = round_trip(Status(static_cast<Code>(code), "what happened"));
    EXPECT_EQ(read.code(), static_cast<Code>(code));
    EXPECT_EQ(read.message(), "what happened");
  }
  EXPECT_TRUE(round_trip(Status::ok()).is_ok());
}

TEST(StatusCodec, an_unknown_code_becomes_internal_and_keeps_its_message) {
  for (const int code : {static_cast<int>(Code::kDeviceBusy) + 1, 200, 255}) {
    bool ok = false;
    const Status read = read_raw(static_cast<std::uint8_t>(code), "from the future", ok);
    EXPECT_TRUE(ok);
    EXPECT_EQ(read.code(), Code::kInternal);
    EXPECT_EQ(read.message(), "from the future");
  }
}

TEST(StatusCodec, ok_with_a_message_is_malformed) {
  bool ok = true;
  EXPECT_TRUE(read_raw(0, "but", ok).is_ok());
  EXPECT_FALSE(ok);
}

TEST(StatusCodec, a_message_of_4096_bytes_is_read_and_a_longer_one_is_malformed) {
  bool ok = false;
  EXPECT_EQ(read_raw(1, std::string(4096, 'a'), ok).message().size(), 4096u);
  EXPECT_TRUE(ok);
  (void)read_raw(1, std::string(4097, 'a'), ok);
  EXPECT_FALSE(ok);
}

TEST(StatusCodec, a_longer_message_is_cut_between_two_characters) {
  EXPECT_EQ(round_trip(Status(Code::kInternal, std::string(5000, 'a'))).message(), std::string(4096, 'a'));
  const std::string before(4095, 'a');
  EXPECT_EQ(round_trip(Status(Code::kInternal, before + "\xC3\xA9 more")).message(), before);
  EXPECT_EQ(round_trip(Status(Code::kInternal, before + "\xF0\x9F\x98\x80 more")).message(), before);
  std::string exactly(4096, 'a');
  exactly.replace(4094, 2, "\xC3\xA9");
  EXPECT_EQ(round_trip(Status(Code::kInternal, exactly + " more")).message(), exactly);
}

TEST(CutText, leaves_what_fits_and_cuts_what_is_no_utf8_anywhere) {
  EXPECT_EQ(cut_text("", 4), "");
  EXPECT_EQ(cut_text("abcd", 4), "abcd");
  EXPECT_EQ(cut_text("abcde", 4), "abcd");
  EXPECT_EQ(cut_text("\xF0\x9F\x98\x80", 3), "");
  EXPECT_EQ(cut_text("abc", 0), "");
  EXPECT_EQ(cut_text(std::string(9, '\x80'), 5).size(), 5u);
}

TEST(CleanText, keeps_valid_utf8) {
  const std::string text = "a\tb\n\xC3\xA9\xE2\x82\xAC\xED\x9F\xBF\xEF\xBF\xBD\xF0\x9F\x98\x80\xF4\x8F\xBF\xBF";
  EXPECT_EQ(clean_text(text), text);
}

TEST(CleanText, replaces_what_is_no_character_and_what_moves_a_terminal) {
  EXPECT_EQ(clean_text("a\x1B[31m\r\x7F"), "a?[31m??");
  EXPECT_EQ(clean_text(std::string_view("\0x", 2)), "?x");
  EXPECT_EQ(clean_text("\xFFz"), "?z");
  EXPECT_EQ(clean_text("\x80"), "?");
  EXPECT_EQ(clean_text("\xC3"), "?");                 // cut off
  EXPECT_EQ(clean_text("\xC0\xAF"), "??");            // overlong
  EXPECT_EQ(clean_text("\xE0\x80\xAF"), "???");       // overlong
  EXPECT_EQ(clean_text("\xED\xA0\x80"), "???");       // half of a surrogate pair
  EXPECT_EQ(clean_text("\xF4\x90\x80\x80"), "????");  // above U+10FFFF
  EXPECT_EQ(clean_text("\xE2\x82z\xE2\x82\xAC"), "??z\xE2\x82\xAC");
}

}  // namespace
}  // namespace ray_hixl::control
