#include "control/status_codec.h"

namespace ray_hixl::control {
namespace {

std::uint8_t byte_at(std::string_view text, std::size_t index) { return static_cast<std::uint8_t>(text[index]); }
bool is_continuation(std::uint8_t byte) { return (byte & 0xC0) == 0x80; }

// Bytes that a character beginning with `first` has; 0 if none begins so. `least`/`most` bound its second byte, which rules out overlong
// forms, surrogates and values above U+10FFFF (Unicode, table 3-7).
std::size_t character_length(std::uint8_t first, std::uint8_t& least, std::uint8_t& most) {
  least = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  most = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return 2;
  if (first >= 0xE0 && first <= 0xEF) return 3;
  if (first >= 0xF0 && first <= 0xF4) return 4;
  return 0;
}

// Bytes of the valid character at the beginning of `text`; 0 if there is none.
std::size_t valid_character(std::string_view text) {
  std::uint8_t least = 0;
  std::uint8_t most = 0;
  const std::size_t length = character_length(byte_at(text, 0), least, most);
  if (length == 0 || length > text.size()) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (byte_at(text, i) < least || byte_at(text, i) > most) return 0;
    least = 0x80;
    most = 0xBF;
  }
  return length;
}

bool is_unwanted_control(std::uint8_t byte) { return (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F; }

}  // namespace

std::string_view cut_text(std::string_view text, std::size_t longest) {
  if (text.size() <= longest) return text;
  std::size_t end = longest;
  // A character has at most three continuation bytes; more of them are not UTF-8 and may be cut anywhere.
  for (int back = 0; back < 3 && end > 0 && is_continuation(byte_at(text, end)); ++back) --end;
  return text.substr(0, is_continuation(byte_at(text, end)) ? longest : end);
}

std::string clean_text(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = valid_character(text);
    if (length == 0 || is_unwanted_control(byte_at(text, 0))) {
      clean.push_back('?');
      text.remove_prefix(1);
      continue;
    }
    clean.append(text.substr(0, length));
    text.remove_prefix(length);
  }
  return clean;
}

void write_status(ByteWriter& writer, const Status& status) {
  writer.u8(static_cast<std::uint8_t>(status.code()));
  writer.text(cut_text(status.message(), kLongestStatusMessage));
}

Status read_status(ByteReader& reader) {
  const std::uint8_t code = reader.u8();
  const std::string message = clean_text(reader.text(kLongestStatusMessage));
  if (code == static_cast<std::uint8_t>(Code::kOk)) {
    if (!message.empty()) reader.fail();
    return Status::ok();
  }
  const bool known = code <= static_cast<std::uint8_t>(Code::kDeviceBusy);
  return {known ? static_cast<Code>(code) : Code::kInternal, message};
}

}  // namespace ray_hixl::control
