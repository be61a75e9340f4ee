// Elements of tensors: sizes, and conversion between the data types that the few kernels compute with.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fake_cann {

// ACL's numbers for data types, as torch_npu passes them.
enum DataType : int {
  kFloat32 = 0,
  kFloat16 = 1,
  kInt8 = 2,
  kInt32 = 3,
  kUInt8 = 4,
  kInt16 = 6,
  kUInt16 = 7,
  kUInt32 = 8,
  kInt64 = 9,
  kUInt64 = 10,
  kFloat64 = 11,
  kBool = 12,
  kComplex64 = 16,
  kComplex128 = 17,
  kBFloat16 = 27,
  kComplex32 = 33,
  kFirstFloat8 = 34,
  kLastFloat8 = 38,
};

// A number, as a float or as an integer; the other one is its conversion.
struct Number {
  bool is_float = false;
  double real = 0;
  std::int64_t integer = 0;
};
[[nodiscard]] inline Number real_number(double value) { return {true, value, static_cast<std::int64_t>(value)}; }
[[nodiscard]] inline Number whole_number(std::int64_t value) { return {false, static_cast<double>(value), value}; }

// Bytes of one element; 0 for types that the fake does not know.
[[nodiscard]] std::size_t element_size(int type);
// Can load() and store() convert it? Others are copied as bytes only.
[[nodiscard]] bool is_arithmetic(int type);
[[nodiscard]] bool is_floating(int type);
[[nodiscard]] Number load(const std::byte* from, int type);
void store(std::byte* to, int type, const Number& number);

}  // namespace fake_cann
