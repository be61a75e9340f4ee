// ByteWriter and ByteReader: fixed-width little-endian fields, bounds checked, no allocation before a length was checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ray_hixl {

using ByteView = std::span<const std::byte>;

class ByteWriter {
 public:
  void u8(std::uint8_t value) { raw(&value, 1); }
  void u16(std::uint16_t value);
  void u32(std::uint32_t value);
  void u64(std::uint64_t value);
  void varint(std::uint64_t value);  // LEB128, at most 10 bytes
  void bytes(ByteView value) { raw(value.data(), value.size()); }
  void text(std::string_view value);  // u16 length, then the bytes; longer text is cut at 65535
  void blob(ByteView value);          // u32 length, then the bytes
  [[nodiscard]] std::size_t size() const { return buffer_.size(); }
  // Overwrites the four bytes at `offset`. REQUIRES: offset + 4 <= size().
  void patch_u32(std::size_t offset, std::uint32_t value);
  [[nodiscard]] std::vector<std::byte> take() { return std::move(buffer_); }
  [[nodiscard]] ByteView view() const { return buffer_; }

 private:
  void raw(const void* data, std::size_t size);
  std::vector<std::byte> buffer_;
};

// Reads past the end give zeros and make ok() false for good: check once, at the end.
class ByteReader {
 public:
  explicit ByteReader(ByteView view) : rest_(view) {}
  [[nodiscard]] std::uint8_t u8();
  [[nodiscard]] std::uint16_t u16();
  [[nodiscard]] std::uint32_t u32();
  [[nodiscard]] std::uint64_t u64();
  [[nodiscard]] std::uint64_t varint();
  [[nodiscard]] ByteView bytes(std::size_t size);       // a view into the input; empty if too short
  [[nodiscard]] std::string text(std::size_t longest);  // fails if longer than `longest`
  [[nodiscard]] ByteView blob(std::size_t longest);
  void fail() { ok_ = false; }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] bool at_end() const { return ok_ && rest_.empty(); }
  [[nodiscard]] std::size_t remaining() const { return rest_.size(); }

 private:
  ByteView rest_;
  bool ok_ = true;
};

}  // namespace ray_hixl
