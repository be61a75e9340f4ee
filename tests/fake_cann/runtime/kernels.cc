// libopapi: operands, and the operators that copy, fill, compare, add and multiply, element by element.
#include <algorithm>
#include <cstring>
#include <memory>

#include "runtime/operators.h"

using namespace fake_cann;

namespace {

Prepared copy(const aclTensor& to, const aclTensor& from) {
  const auto target = Elements::of(to);
  const auto source = Elements::of(from, to.shape);
  if (!target || !source) return bad_operand();
  const bool same = to.type == from.type;
  if (!same && !(is_arithmetic(to.type) && is_arithmetic(from.type))) {
    return {fail(kNoSuchCast, "no cast from type " + std::to_string(from.type) + " to " + std::to_string(to.type)), nullptr};
  }
  return {kOk, [target = *target, source = *source, same, bytes = element_size(to.type)] {
            if (same && target.size() > 0 && target.are_adjacent() && source.are_adjacent()) {
              std::memmove(target.at(0), source.at(0), static_cast<std::size_t>(target.size()) * bytes);
              return;
            }
            for (std::int64_t i = 0; i < target.size(); ++i) {
              if (same) {
                std::memcpy(target.at(i), source.at(i), bytes);
              } else {
                target.set(i, source.get(i));
              }
            }
          }};
}

template <class Function>
Prepared combine(const aclTensor& first, const aclTensor& second, const aclTensor& result, Function function) {
  const auto a = Elements::of(first, result.shape);
  const auto b = Elements::of(second, result.shape);
  const auto out = Elements::of(result);
  if (!a || !b || !out || !is_arithmetic(a->type()) || !is_arithmetic(b->type()) || !is_arithmetic(out->type())) return bad_operand();
  return {kOk, [a = *a, b = *b, out = *out, function] {
            for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, function(a.get(i), b.get(i)));
          }};
}

template <class Function>
Prepared change(const aclTensor& from, const aclTensor& result, Function function) {
  return combine(from, from, result, [function](const Number& a, const Number&) { return function(a); });
}

Prepared fill(const aclTensor& target, const Number& number) {
  return change(target, target, [number](const Number&) { return number; });
}

Prepared zero(const aclTensor& target) {
  const auto elements = Elements::of(target);
  if (!elements) return bad_operand();
  return {kOk, [elements = *elements, bytes = element_size(target.type)] {
            for (std::int64_t i = 0; i < elements.size(); ++i) std::memset(elements.at(i), 0, bytes);
          }};
}

Number as_scalar(const aclScalar& scalar) { return scalar.number; }

bool equal(const Number& a, const Number& b) { return a.is_float || b.is_float ? a.real == b.real : a.integer == b.integer; }
Number truth(bool value) { return whole_number(value ? 1 : 0); }

Number add(const Number& a, const Number& b, const Number& factor) {
  if (a.is_float || b.is_float || factor.is_float) return real_number(a.real + b.real * factor.real);
  return whole_number(a.integer + b.integer * factor.integer);
}

Number multiply(const Number& a, const Number& b) {
  return a.is_float || b.is_float ? real_number(a.real * b.real) : whole_number(a.integer * b.integer);
}

// All elements folded into the single one of `result`.
template <class Function>
Prepared fold(const aclTensor& from, const aclTensor& result, Number start, Function function) {
  const auto source = Elements::of(from);
  const auto out = Elements::of(result);
  if (!source || !out || out->size() != 1 || !is_arithmetic(from.type) || !is_arithmetic(result.type)) return bad_operand();
  return {kOk, [source = *source, out = *out, start, function] {
            Number folded = start;
            for (std::int64_t i = 0; i < source.size(); ++i) folded = function(folded, source.get(i));
            out.set(0, folded);
          }};
}

Prepared whole_tensor_only(const char* name, const aclIntArray& dims, const aclTensor& tensor) {
  if (dims.values.empty() || dims.values.size() == tensor.shape.size() || tensor.shape.size() <= 1) return {};
  return {refuse_operator(name, " along some dimensions"), nullptr};
}

Prepared equal_tensors(const aclTensor& first, const aclTensor& second, const aclTensor& result) {
  const auto a = Elements::of(first);
  const auto b = Elements::of(second);
  const auto out = Elements::of(result);
  if (!a || !b || !out) return bad_operand();
  return {kOk, [a = *a, b = *b, out = *out, comparable = first.shape == second.shape && first.type == second.type,
                bytes = element_size(first.type)] {
            bool same = comparable;
            for (std::int64_t i = 0; same && i < a.size(); ++i) {
              same = is_arithmetic(a.type()) ? equal(a.get(i), b.get(i)) : std::memcmp(a.at(i), b.at(i), bytes) == 0;
            }
            out.set(0, truth(same));
          }};
}

Prepared arange(const Number& start, const Number& step, const aclTensor& result) {
  const auto out = Elements::of(result);
  if (!out || !is_arithmetic(result.type)) return bad_operand();
  return {kOk, [out = *out, start, step] {
            for (std::int64_t i = 0; i < out.size(); ++i) out.set(i, add(start, whole_number(i), step));
          }};
}

Prepared all_of(std::vector<Prepared> parts) {
  for (const Prepared& part : parts) {
    if (part.status != kOk) return {part.status, nullptr};
  }
  return {kOk, [parts = std::move(parts)] {
            for (const Prepared& part : parts) part.kernel();
          }};
}

// Side by side along `dim`; stacked tensors get that dimension first.
Prepared concatenate(const aclTensorList& list, std::int64_t dim, const aclTensor& result, bool stacked) {
  if (dim < 0) dim += static_cast<std::int64_t>(result.shape.size());
  const auto axis = static_cast<std::size_t>(dim);
  std::vector<Prepared> parts;
  std::int64_t at = 0;
  for (const aclTensor* tensor : list.tensors) {
    if (!stacked && tensor->shape.size() == 1 && tensor->shape[0] == 0) continue;  // torch allows it among any others
    aclTensor source = *tensor;
    if (stacked) {
      source.shape.insert(source.shape.begin() + dim, 1);
      source.strides.insert(source.strides.begin() + dim, 0);
    }
    aclTensor target = result;
    target.shape = source.shape;
    target.offset += at * result.strides[axis];
    at += source.shape[axis];
    parts.push_back(copy(target, source));
  }
  return all_of(std::move(parts));
}

// Real and imaginary parts side by side: two copies into every second half of an element.
Prepared join_complex(const aclTensor& real, const aclTensor& imaginary, const aclTensor& result) {
  aclTensor half = result;
  half.type = real.type;
  half.offset *= 2;
  for (std::int64_t& stride : half.strides) stride *= 2;
  std::vector<Prepared> parts;
  parts.push_back(copy(half, real));
  ++half.offset;
  parts.push_back(copy(half, imaginary));
  return all_of(std::move(parts));
}

}  // namespace

extern "C" {

aclTensor* aclCreateTensor(const std::int64_t* shape, std::uint64_t dims, int type, const std::int64_t* strides, std::int64_t offset, int,
                           const std::int64_t*, std::uint64_t, void* base) {
  return new aclTensor{type, {shape, shape + dims}, {strides, strides + dims}, offset, base};
}
int aclDestroyTensor(const aclTensor* tensor) {
  const std::unique_ptr<const aclTensor> owned(tensor);
  return kOk;
}
aclScalar* aclCreateScalar(void* value, int type) { return new aclScalar{type, load(static_cast<const std::byte*>(value), type)}; }
int aclDestroyScalar(const aclScalar* scalar) {
  const std::unique_ptr<const aclScalar> owned(scalar);
  return kOk;
}
aclIntArray* aclCreateIntArray(const std::int64_t* values, std::uint64_t size) { return new aclIntArray{{values, values + size}}; }
int aclDestroyIntArray(const aclIntArray* array) {
  const std::unique_ptr<const aclIntArray> owned(array);
  return kOk;
}
aclFloatArray* aclCreateFloatArray(const float* values, std::uint64_t size) { return new aclFloatArray{{values, values + size}}; }
int aclDestroyFloatArray(const aclFloatArray* array) {
  const std::unique_ptr<const aclFloatArray> owned(array);
  return kOk;
}
aclBoolArray* aclCreateBoolArray(const bool* values, std::uint64_t size) {
  return new aclBoolArray{std::vector<bool>(values, values + size)};
}
int aclDestroyBoolArray(const aclBoolArray* array) {
  const std::unique_ptr<const aclBoolArray> owned(array);
  return kOk;
}
aclTensorList* aclCreateTensorList(const aclTensor* const* tensors, std::uint64_t size) {
  return new aclTensorList{{tensors, tensors + size}};
}
int aclDestroyTensorList(const aclTensorList* list) {
  const std::unique_ptr<const aclTensorList> owned(list);
  for (const aclTensor* tensor : owned->tensors) (void)aclDestroyTensor(tensor);
  return kOk;
}

FAKE_CANN_OPERATOR(aclnnInplaceCopy, copy(*to, *from), const aclTensor* to, const aclTensor* from)
FAKE_CANN_OPERATOR(aclnnCast, copy(*to, *from), const aclTensor* from, int, const aclTensor* to)
FAKE_CANN_OPERATOR(aclnnInplaceZero, zero(*target), const aclTensor* target)
FAKE_CANN_OPERATOR(aclnnInplaceOne, fill(*target, whole_number(1)), const aclTensor* target)
FAKE_CANN_OPERATOR(aclnnInplaceFillScalar, fill(*target, as_scalar(*value)), const aclTensor* target, const aclScalar* value)
FAKE_CANN_OPERATOR(aclnnInplaceFillTensor, copy(*target, *value), const aclTensor* target, const aclTensor* value)
FAKE_CANN_OPERATOR(aclnnArange, arange(as_scalar(*start), as_scalar(*step), *result), const aclScalar* start, const aclScalar*,
                   const aclScalar* step, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnCat, concatenate(*list, dim, *result, false), const aclTensorList* list, std::int64_t dim, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnStack, concatenate(*list, dim, *result, true), const aclTensorList* list, std::int64_t dim, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnEqTensor, combine(*a, *b, *result, [](const Number& x, const Number& y) { return truth(equal(x, y)); }),
                   const aclTensor* a, const aclTensor* b, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnNeTensor, combine(*a, *b, *result, [](const Number& x, const Number& y) { return truth(!equal(x, y)); }),
                   const aclTensor* a, const aclTensor* b, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnEqScalar, change(*a, *result, [y = as_scalar(*b)](const Number& x) { return truth(equal(x, y)); }),
                   const aclTensor* a, const aclScalar* b, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnEqual, equal_tensors(*a, *b, *result), const aclTensor* a, const aclTensor* b, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnAdd, combine(*a, *b, *result, [f = as_scalar(*factor)](const Number& x, const Number& y) { return add(x, y, f); }),
                   const aclTensor* a, const aclTensor* b, const aclScalar* factor, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnAdds, change(*a, *result, [y = as_scalar(*b), f = as_scalar(*factor)](const Number& x) { return add(x, y, f); }),
                   const aclTensor* a, const aclScalar* b, const aclScalar* factor, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnInplaceAdd,
                   combine(*a, *b, *a, [f = as_scalar(*factor)](const Number& x, const Number& y) { return add(x, y, f); }),
                   const aclTensor* a, const aclTensor* b, const aclScalar* factor)
FAKE_CANN_OPERATOR(aclnnInplaceAdds, change(*a, *a, [y = as_scalar(*b), f = as_scalar(*factor)](const Number& x) { return add(x, y, f); }),
                   const aclTensor* a, const aclScalar* b, const aclScalar* factor)
FAKE_CANN_OPERATOR(aclnnComplex, join_complex(*real, *imaginary, *result), const aclTensor* real, const aclTensor* imaginary,
                   const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnNeg, change(*a, *result, [](const Number& x) { return multiply(x, whole_number(-1)); }), const aclTensor* a,
                   const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnMul, combine(*a, *b, *result, multiply), const aclTensor* a, const aclTensor* b, const aclTensor* result)
FAKE_CANN_OPERATOR(aclnnMuls, change(*a, *result, [y = as_scalar(*b)](const Number& x) { return multiply(x, y); }), const aclTensor* a,
                   const aclScalar* b, const aclTensor* result)

int aclnnAllGetWorkspaceSize(const aclTensor* from, const aclIntArray* dims, bool, const aclTensor* result, std::uint64_t* workspace,
                             aclOpExecutor** executor) {
  if (const Prepared refused = whole_tensor_only("aclnnAll", *dims, *from); refused.status != kOk) return refused.status;
  const auto both = [](const Number& so_far, const Number& next) { return truth(so_far.integer != 0 && next.real != 0); };
  return hand_over(fold(*from, *result, truth(true), both), workspace, executor);
}
int aclnnAll(void*, std::uint64_t, aclOpExecutor* executor, void* stream) { return execute("aclnnAll", executor, stream); }

int aclnnReduceSumGetWorkspaceSize(const aclTensor* from, const aclIntArray* dims, bool, int, const aclTensor* result,
                                   std::uint64_t* workspace, aclOpExecutor** executor) {
  if (const Prepared refused = whole_tensor_only("aclnnReduceSum", *dims, *from); refused.status != kOk) return refused.status;
  const Number start = is_floating(from->type) ? real_number(0) : whole_number(0);
  const auto sum = [](const Number& so_far, const Number& next) { return add(so_far, next, whole_number(1)); };
  return hand_over(fold(*from, *result, start, sum), workspace, executor);
}
int aclnnReduceSum(void*, std::uint64_t, aclOpExecutor* executor, void* stream) { return execute("aclnnReduceSum", executor, stream); }

int aclnnForeachCopyGetWorkspaceSize(const aclTensorList* from, const aclTensorList* to, std::uint64_t* workspace,
                                     aclOpExecutor** executor) {
  std::vector<Prepared> parts;
  for (std::size_t i = 0; i < from->tensors.size(); ++i) parts.push_back(copy(*to->tensors[i], *from->tensors[i]));
  return hand_over(all_of(std::move(parts)), workspace, executor);
}
int aclnnForeachCopy(void*, std::uint64_t, aclOpExecutor* executor, void* stream) { return execute("aclnnForeachCopy", executor, stream); }

}  // extern "C"
