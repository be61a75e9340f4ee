// A Status as bytes: code, then a message of at most 4096 bytes of UTF-8. Used wherever an outcome travels to another process.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "ray_hixl/status.h"

namespace ray_hixl::control {

inline constexpr std::size_t kLongestStatusMessage = 4096;

// A longer message is cut between two characters.
void write_status(ByteWriter& writer, const Status& status);
// Text of a peer is for people's eyes: control characters (but line feed and tab) and bytes that are not UTF-8 become '?'. A code that
// this version does not know becomes kInternal. A longer message, or an ok status with a message: the reader fails.
[[nodiscard]] Status read_status(ByteReader& reader);

// The longest beginning of `text` of at most `longest` bytes that does not cut a UTF-8 character.
[[nodiscard]] std::string_view cut_text(std::string_view text, std::size_t longest);
// `text` with '?' for each byte that is not part of a valid UTF-8 character, and for each control character but line feed and tab.
[[nodiscard]] std::string clean_text(std::string_view text);

}  // namespace ray_hixl::control
