#include "base/bytes.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace ray_hixl {

static_assert(std::endian::native == std::endian::little, "fields are written in memory order");

void ByteWriter::raw(const void* data, std::size_t size) {
  if (size == 0) return;
  const auto* first = static_cast<const std::byte*>(data);
  buffer_.insert(buffer_.end(), first, first + size);
}

void ByteWriter::u16(std::uint16_t value) { raw(&value, sizeof(value)); }
void ByteWriter::u32(std::uint32_t value) { raw(&value, sizeof(value)); }
void ByteWriter::u64(std::uint64_t value) { raw(&value, sizeof(value)); }

void ByteWriter::varint(std::uint64_t value) {
  while (value >= 0x80) {
    u8(static_cast<std::uint8_t>(value | 0x80));
    value >>= 7;
  }
  u8(static_cast<std::uint8_t>(value));
}

void ByteWriter::text(std::string_view value) {
  const auto size = static_cast<std::uint16_t>(std::min<std::size_t>(value.size(), 0xffff));
  u16(size);
  raw(value.data(), size);
}

void ByteWriter::blob(ByteView value) {
  u32(static_cast<std::uint32_t>(value.size()));
  bytes(value);
}

void ByteWriter::patch_u32(std::size_t offset, std::uint32_t value) { std::memcpy(buffer_.data() + offset, &value, sizeof(value)); }

ByteView ByteReader::bytes(std::size_t size) {
  if (!ok_ || size > rest_.size()) {
    ok_ = false;
    return {};
  }
  const ByteView taken = rest_.first(size);
  rest_ = rest_.subspan(size);
  return taken;
}

namespace {

template <class T>
T load(ByteView view) {
  T value = 0;
  if (view.size() == sizeof(T)) std::memcpy(&value, view.data(), sizeof(T));
  return value;
}

}  // namespace

std::uint8_t ByteReader::u8() { return load<std::uint8_t>(bytes(1)); }
std::uint16_t ByteReader::u16() { return load<std::uint16_t>(bytes(2)); }
std::uint32_t ByteReader::u32() { return load<std::uint32_t>(bytes(4)); }
std::uint64_t ByteReader::u64() { return load<std::uint64_t>(bytes(8)); }

std::uint64_t ByteReader::varint() {
  std::uint64_t value = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    const std::uint8_t byte = u8();
    if (shift == 63 && byte > 1) break;  // more than 64 bits
    value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return ok_ ? value : 0;
  }
  ok_ = false;
  return 0;
}

std::string ByteReader::text(std::size_t longest) {
  const std::size_t size = u16();
  if (size > longest) ok_ = false;
  const ByteView view = bytes(size);
  return std::string(reinterpret_cast<const char*>(view.data()), view.size());
}

ByteView ByteReader::blob(std::size_t longest) {
  const std::size_t size = u32();
  if (size > longest) ok_ = false;
  return bytes(size);
}

}  // namespace ray_hixl
