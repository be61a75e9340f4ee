#include "runtime/elements.h"

#include <cmath>
#include <cstring>

namespace fake_cann {
namespace {

template <class T>
T read_as(const std::byte* from) {
  T value{};
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <class T>
void write_as(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(value));
}

template <class T>
void write_number(std::byte* to, const Number& number) {
  write_as<T>(to, number.is_float ? static_cast<T>(number.real) : static_cast<T>(number.integer));
}

float from_bfloat16(std::uint16_t bits) {
  const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof(value));
  return value;
}

// To the nearest, ties to even.
std::uint16_t to_bfloat16(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  bits += 0x7fff + ((bits >> 16) & 1);
  return static_cast<std::uint16_t>(bits >> 16);
}

float from_float16(std::uint16_t bits) {
  const bool negative = (bits >> 15) != 0;
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  float value = 0;
  if (exponent == 0) {
    value = std::ldexp(static_cast<float>(mantissa), -24);
  } else if (exponent == 31) {
    value = mantissa != 0 ? NAN : INFINITY;
  } else {
    value = std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  }
  return negative ? -value : value;
}

// To the nearest, ties to even.
std::uint16_t to_float16(float value) {
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const float magnitude = std::fabs(value);
  if (std::isnan(value)) return sign | 0x7e00;
  if (magnitude >= 65520.0F) return sign | 0x7c00;
  int exponent = 0;
  std::frexp(magnitude, &exponent);
  const int scale = magnitude < std::ldexp(1.0F, -14) ? -24 : exponent - 11;  // of the last bit
  const auto units = static_cast<int>(std::nearbyint(std::ldexp(magnitude, -scale)));
  if (scale == -24) return static_cast<std::uint16_t>(sign | units);
  return static_cast<std::uint16_t>(sign | (((scale + 25) << 10) + units - 1024));
}

}  // namespace

std::size_t element_size(int type) {
  if (type >= kFirstFloat8 && type <= kLastFloat8) return 1;
  switch (type) {
    case kInt8:
    case kUInt8:
    case kBool: return 1;
    case kFloat16:
    case kBFloat16:
    case kInt16:
    case kUInt16: return 2;
    case kFloat32:
    case kInt32:
    case kUInt32:
    case kComplex32: return 4;
    case kInt64:
    case kUInt64:
    case kFloat64:
    case kComplex64: return 8;
    case kComplex128: return 16;
    default: return 0;
  }
}

bool is_floating(int type) { return type == kFloat32 || type == kFloat16 || type == kFloat64 || type == kBFloat16; }

bool is_arithmetic(int type) { return is_floating(type) || (type <= kBool && element_size(type) != 0); }

Number load(const std::byte* from, int type) {
  switch (type) {
    case kFloat32: return real_number(read_as<float>(from));
    case kFloat64: return real_number(read_as<double>(from));
    case kFloat16: return real_number(from_float16(read_as<std::uint16_t>(from)));
    case kBFloat16: return real_number(from_bfloat16(read_as<std::uint16_t>(from)));
    case kInt8: return whole_number(read_as<std::int8_t>(from));
    case kInt16: return whole_number(read_as<std::int16_t>(from));
    case kInt32: return whole_number(read_as<std::int32_t>(from));
    case kInt64: return whole_number(read_as<std::int64_t>(from));
    case kUInt8:
    case kBool: return whole_number(read_as<std::uint8_t>(from));
    case kUInt16: return whole_number(read_as<std::uint16_t>(from));
    case kUInt32: return whole_number(read_as<std::uint32_t>(from));
    case kUInt64: return whole_number(static_cast<std::int64_t>(read_as<std::uint64_t>(from)));
    default: return {};
  }
}

void store(std::byte* to, int type, const Number& number) {
  switch (type) {
    case kFloat32: return write_number<float>(to, number);
    case kFloat64: return write_number<double>(to, number);
    case kFloat16: return write_as(to, to_float16(static_cast<float>(number.is_float ? number.real : static_cast<double>(number.integer))));
    case kBFloat16:
      return write_as(to, to_bfloat16(static_cast<float>(number.is_float ? number.real : static_cast<double>(number.integer))));
    case kInt8: return write_number<std::int8_t>(to, number);
    case kInt16: return write_number<std::int16_t>(to, number);
    case kInt32: return write_number<std::int32_t>(to, number);
    case kInt64: return write_number<std::int64_t>(to, number);
    case kUInt8: return write_number<std::uint8_t>(to, number);
    case kUInt16: return write_number<std::uint16_t>(to, number);
    case kUInt32: return write_number<std::uint32_t>(to, number);
    case kUInt64: return write_number<std::uint64_t>(to, number);
    case kBool: return write_as<std::uint8_t>(to, (number.is_float ? number.real != 0 : number.integer != 0) ? 1 : 0);
    default: return;
  }
}

}  // namespace fake_cann
