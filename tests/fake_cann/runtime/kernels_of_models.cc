// libopapi: the operators of which the examples make a transformer. Sums are in double, rows lie along the last dimension.
#include <cmath>
#include <limits>

#include "runtime/operators.h"

using namespace fake_cann;

namespace {

using Shape = std::vector<std::int64_t>;

Shape with_matrix(Shape batch, std::int64_t rows, std::int64_t columns) {
  batch.push_back(rows);
  batch.push_back(columns);
  return batch;
}

// Matrices, or batches of them, of which either may be one for all.
Prepared multiply_matrices(const aclTensor& first, const aclTensor& second, const aclTensor& result) {
  if (first.shape.size() < 2 || second.shape.size() < 2 || result.shape.size() < 2) return bad_operand();
  const std::int64_t rows = result.shape.end()[-2];
  const std::int64_t columns = result.shape.back();
  const std::int64_t inner = first.shape.back();
  const Shape batch(result.shape.begin(), result.shape.end() - 2);
  const auto a = Elements::of(first, with_matrix(batch, rows, inner));
  const auto b = Elements::of(second, with_matrix(batch, inner, columns));
  const auto out = Elements::of(result);
  if (!a || !b || !out || !is_floating(first.type) || !is_floating(second.type) || !is_floating(result.type)) return bad_operand();
  return {kOk, [a = *a, b = *b, out = *out, rows, columns, inner] {
            for (std::int64_t i = 0; i < out.size(); ++i) {
              const std::int64_t matrix = i / (rows * columns);
              const std::int64_t row = i / columns;  // of all matrices
              double sum = 0;
              for (std::int64_t k = 0; k < inner; ++k) {
                sum += a.get(row * inner + k).real * b.get((matrix * inner + k) * columns + i % columns).real;
              }
              out.set(i, real_number(sum));
            }
          }};
}

bool is_last(const char* name, std::int64_t dim, const aclTensor& tensor) {
  const auto dims = static_cast<std::int64_t>(tensor.shape.size());
  if (dims > 0 && (dim == -1 || dim == dims - 1)) return true;
  (void)refuse_operator(name, " along another dimension than the last one");
  return false;
}

// `function(source, first element of a row, its length, result, row)` for each row.
template <class Function>
Prepared by_rows(const char* name, const aclTensor& from, std::int64_t dim, const aclTensor& result, Function function) {
  if (!is_last(name, dim, from)) return {kOperatorFailed, nullptr};
  const auto source = Elements::of(from);
  const auto out = Elements::of(result);
  if (!source || !out || !is_floating(from.type) || !is_arithmetic(result.type)) return bad_operand();
  return {kOk, [source = *source, out = *out, length = from.shape.back(), function] {
            for (std::int64_t row = 0; row * length < source.size(); ++row) function(source, row * length, length, out, row);
          }};
}

std::int64_t largest_of(const Elements& source, std::int64_t start, std::int64_t length) {
  std::int64_t found = 0;
  for (std::int64_t i = 1; i < length; ++i) {
    if (source.get(start + i).real > source.get(start + found).real) found = i;
  }
  return found;
}

void softmax(const Elements& source, std::int64_t start, std::int64_t length, const Elements& out, std::int64_t) {
  const double largest = source.get(start + largest_of(source, start, length)).real;
  double sum = 0;
  for (std::int64_t i = 0; i < length; ++i) sum += std::exp(source.get(start + i).real - largest);
  for (std::int64_t i = 0; i < length; ++i) out.set(start + i, real_number(std::exp(source.get(start + i).real - largest) / sum));
}

void mean(const Elements& source, std::int64_t start, std::int64_t length, const Elements& out, std::int64_t row) {
  double sum = 0;
  for (std::int64_t i = 0; i < length; ++i) sum += source.get(start + i).real;
  out.set(row, real_number(sum / static_cast<double>(length)));
}

void largest(const Elements& source, std::int64_t start, std::int64_t length, const Elements& out, std::int64_t row) {
  out.set(row, whole_number(largest_of(source, start, length)));
}

template <class Function>
Prepared each(const aclTensor& from, const aclTensor& result, Function function) {
  const auto source = Elements::of(from, result.shape);
  const auto out = Elements::of(result);
  if (!source || !out || !is_floating(from.type)) return bad_operand();
  return {kOk, [source = *source, out = *out, function] {
            for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, real_number(function(source.get(i).real)));
          }};
}

// Rows of `weight`. An index outside of it reads as NaN: a device could not raise either.
Prepared look_up(const aclTensor& weight, const aclTensor& indices, const aclTensor& result) {
  const auto table = Elements::of(weight);
  const auto wanted = Elements::of(indices);
  const auto out = Elements::of(result);
  if (!table || !wanted || !out || weight.shape.size() != 2 || !is_floating(weight.type)) return bad_operand();
  return {kOk, [table = *table, wanted = *wanted, out = *out, rows = weight.shape[0], width = weight.shape[1]] {
            for (std::int64_t i = 0; i < out.size(); ++i) {
              const std::int64_t row = wanted.get(i / width).integer;
              const bool is_inside = row >= 0 && row < rows;
              out.set(i, is_inside ? table.get(row * width + i % width) : real_number(std::numeric_limits<double>::quiet_NaN()));
            }
          }};
}

}  // namespace

extern "C" {

FAKE_CANN_OPERATOR(aclnnMatmul, multiply_matrices(*a, *b, *result), const aclTensor* a, const aclTensor* b, const aclTensor* result,
                   std::int8_t)
FAKE_CANN_OPERATOR(aclnnBatchMatMul, multiply_matrices(*a, *b, *result), const aclTensor* a, const aclTensor* b, const aclTensor* result,
                   std::int8_t)
FAKE_CANN_OPERATOR(aclnnSoftmax, by_rows("aclnnSoftmax", *from, dim, *result, softmax), const aclTensor* from, std::int64_t dim,
                   const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnMean, by_rows("aclnnMean", *from, dims->values.size() == 1 ? dims->values[0] : -2, *result, mean),
                   const aclTensor* from, const aclIntArray* dims, bool, int, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnArgMax, by_rows("aclnnArgMax", *from, dim, *result, largest), const aclTensor* from, std::int64_t dim, bool,
                   const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnRelu, each(*from, *result, [](double x) { return x > 0 ? x : 0; }), const aclTensor* from, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnRsqrt, each(*from, *result, [](double x) { return 1 / std::sqrt(x); }), const aclTensor* from,
                   const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnEmbedding, look_up(*weight, *indices, *result), const aclTensor* weight, const aclTensor* indices,
                   const aclTensor* result)

}  // extern "C"
