// What operators of libopapi get: tensors, scalars, lists; and how a kernel walks over a tensor's elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "runtime/elements.h"

// Names of the C interface, opaque to callers.
struct aclTensor {
  int type = 0;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // in elements
  std::int64_t offset = 0;            // in elements
  void* base = nullptr;               // device pointer
};
struct aclScalar {
  int type = 0;
  fake_cann::Number number;
};
struct aclIntArray {
  std::vector<std::int64_t> values;
};
struct aclFloatArray {
  std::vector<float> values;
};
struct aclBoolArray {
  std::vector<bool> values;
};
struct aclTensorList {
  std::vector<const aclTensor*> tensors;  // owned
};
// Made by ...GetWorkspaceSize in the calling thread, run on the stream later.
struct aclOpExecutor {
  std::function<void()> run;
};

namespace fake_cann {

[[nodiscard]] std::int64_t count(const std::vector<std::int64_t>& shape);

// The elements of a tensor in row-major order of a shape that it is broadcast to.
class Elements {
 public:
  // nullopt unless all of the tensor lies inside of one live device allocation.
  [[nodiscard]] static std::optional<Elements> of(const aclTensor& tensor, const std::vector<std::int64_t>& shape);
  [[nodiscard]] static std::optional<Elements> of(const aclTensor& tensor) { return of(tensor, tensor.shape); }

  [[nodiscard]] std::byte* at(std::int64_t index) const;
  [[nodiscard]] Number get(std::int64_t index) const { return load(at(index), type_); }
  void set(std::int64_t index, const Number& number) const { store(at(index), type_, number); }
  [[nodiscard]] std::int64_t size() const { return count(shape_); }
  [[nodiscard]] int type() const { return type_; }
  // One behind the other, so that at(0) is all of them?
  [[nodiscard]] bool are_adjacent() const;

 private:
  std::byte* base_ = nullptr;
  int type_ = 0;
  std::vector<std::int64_t> shape_;
  std::vector<std::int64_t> strides_;  // in bytes
};

}  // namespace fake_cann
