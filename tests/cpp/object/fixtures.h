// What the tests of objects share: an engine with objects, tensors of pattern bytes, fetching and comparing.
#pragma once

#include "ray_hixl/objects.h"
#include "support/engines.h"

namespace ray_hixl::test {

class OwnObjects : public OwnEngine {
 public:
  explicit OwnObjects(const std::vector<std::string>& transports = Options{}.transports)
      : OwnEngine(transports), objects_(Objects::create(**this).value()) {}
  explicit OwnObjects(const Options& options) : OwnEngine(options), objects_(Objects::create(**this).value()) {}
  [[nodiscard]] const Objects& objects() const { return objects_; }

 private:
  Objects objects_;
};

inline Options publishing(const std::string& mode) {
  Options options;
  options.publish = mode;
  return options;
}

inline Layout uint8_layout(std::uint64_t size) { return {"uint8", 1, {size}}; }

// Tensors of these sizes, tensor i filled with pattern seed + i; the memory lives in `bytes`.
struct Tensors {
  Tensors(const std::vector<std::uint64_t>& sizes, std::uint64_t seed) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      bytes.push_back(make_pattern(sizes[i], seed + i));
      layouts.push_back(uint8_layout(sizes[i]));
      sources.push_back({{bytes.back().data(), sizes[i]}, static_cast<std::uint32_t>(i)});
    }
  }
  std::vector<Bytes> bytes;
  std::vector<Layout> layouts;
  std::vector<SourceTensor> sources;
};

// The object keeps the tensors; `watch`, if given, sees them go.
inline Bytes publish(const Objects& objects, const std::vector<std::uint64_t>& sizes, std::uint64_t seed,
                     std::weak_ptr<const void>* watch = nullptr) {
  auto tensors = std::make_shared<Tensors>(sizes, seed);
  if (watch != nullptr) *watch = tensors;
  return objects.publish(tensors->layouts, tensors->sources, tensors);
}

inline Result<std::vector<FetchedTensor>> fetch(const Objects& objects, const Bytes& metadata) {
  const Fetch fetch = objects.fetch(metadata, {}, nullptr, kRead);
  EXPECT_TRUE(fetch.transfer().wait());
  return fetch.take();
}

inline MemoryRange range_of(const FetchedTensor& tensor) { return {tensor.address, tensor.length, tensor.kind, tensor.device}; }

inline void expect_patterns(const std::vector<FetchedTensor>& tensors, const std::vector<std::uint64_t>& sizes, std::uint64_t seed) {
  ASSERT_EQ(tensors.size(), sizes.size());
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    EXPECT_EQ(tensors[i].length, sizes[i]);
    EXPECT_TRUE(holds_pattern(range_of(tensors[i]), seed + i)) << "tensor " << i;
  }
}

}  // namespace ray_hixl::test
