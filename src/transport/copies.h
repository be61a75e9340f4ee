// Copies: what a job copies, neighbours joined, and cut into parts that several threads may carry out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ray_hixl::transport {

// One contiguous copy. `from` is an address in the space that the mover reads: this process, or the owner's.
struct Copy {
  std::byte* to = nullptr;
  std::uint64_t from = 0;
  std::uint64_t length = 0;
};

// Immutable, so that a prepared batch is joined and cut once, and read often.
class Copies {
 public:
  // More are worth a switch of threads.
  static constexpr std::uint64_t kOneThreadBytes = std::uint64_t{1} << 20;
  // Bytes that take as long as a copy within this process takes before its first one.
  static constexpr std::uint64_t kCopyCost = 1024;

  // In this order. Parts take about the same time, a millisecond or less: by bytes, and by copies, each of which costs as much as
  // `copy_cost` more bytes. There are as many as `threads` can share evenly, of more than kOneThreadBytes.
  Copies(std::vector<Copy> whole, std::size_t threads, std::uint64_t copy_cost = kCopyCost);

  [[nodiscard]] std::size_t parts() const { return starts_.size() - 1; }
  [[nodiscard]] std::span<const Copy> part(std::size_t index) const {
    return std::span(copies_).subspan(starts_[index], starts_[index + 1] - starts_[index]);
  }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }  // of all parts
  // So little that whoever has it copies it at once.
  [[nodiscard]] bool is_little() const { return parts() <= 1 && bytes_ <= kOneThreadBytes; }

 private:
  void cut(std::span<const Copy> whole, std::uint64_t part_cost, std::uint64_t copy_cost);

  std::vector<Copy> copies_;
  std::vector<std::size_t> starts_;  // of the parts, and the end
  std::uint64_t bytes_ = 0;
};

}  // namespace ray_hixl::transport
