#include "runtime/operands.h"

#include "runtime/heap.h"

namespace fake_cann {

std::int64_t count(const std::vector<std::int64_t>& shape) {
  std::int64_t elements = 1;
  for (const std::int64_t size : shape) elements *= size;
  return elements;
}

std::optional<Elements> Elements::of(const aclTensor& tensor, const std::vector<std::int64_t>& shape) {
  const auto bytes = static_cast<std::int64_t>(element_size(tensor.type));
  if (bytes == 0 || shape.size() < tensor.shape.size()) return std::nullopt;
  Elements elements;
  elements.type_ = tensor.type;
  elements.shape_ = shape;
  elements.strides_.assign(shape.size(), 0);
  std::int64_t extent = 1;  // elements from the first to the last one
  const std::size_t leading = shape.size() - tensor.shape.size();
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] > 1) elements.strides_[leading + i] = tensor.strides[i] * bytes;
    extent += (tensor.shape[i] - 1) * tensor.strides[i];
  }
  if (count(tensor.shape) == 0) return elements;
  const auto* const first = static_cast<const std::byte*>(tensor.base) + tensor.offset * bytes;
  const auto place = find(first, static_cast<std::size_t>(extent * bytes));
  if (!place || !place->live) return std::nullopt;
  elements.base_ = place->bytes;
  return elements;
}

std::byte* Elements::at(std::int64_t index) const {
  std::int64_t offset = 0;
  for (std::size_t i = shape_.size(); i-- > 0;) {
    offset += index % shape_[i] * strides_[i];
    index /= shape_[i];
  }
  return base_ + offset;
}

bool Elements::are_adjacent() const {
  auto expected = static_cast<std::int64_t>(element_size(type_));
  for (std::size_t i = shape_.size(); i-- > 0;) {
    if (shape_[i] != 1 && strides_[i] != expected) return false;
    expected *= shape_[i];
  }
  return true;
}

}  // namespace fake_cann
