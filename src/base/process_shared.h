// make_process_shared: shared objects that end only in the process that made them.
//
// In a forked child the last pointer may die like any other, but the object stays as it is: another thread of the parent may have been
// changing it when the process forked, and what its destructor would touch (locks, threads, peers) belongs to the parent.
#pragma once

#include <memory>
#include <utility>

#include "base/fork.h"

namespace ray_hixl {

// What std::allocate_shared asks for memory and, at the end, to destroy.
template <class T>
class ProcessAllocator {
 public:
  using value_type = T;

  ProcessAllocator() noexcept = default;
  template <class U>
  explicit(false) ProcessAllocator(const ProcessAllocator<U>& other) noexcept : generation_(other.generation()) {}

  [[nodiscard]] T* allocate(std::size_t count) { return std::allocator<T>().allocate(count); }
  void deallocate(T* address, std::size_t count) noexcept { std::allocator<T>().deallocate(address, count); }
  template <class U>
  void destroy(U* object) noexcept {
    if (generation_ == process_generation()) object->~U();
  }

  [[nodiscard]] std::uint32_t generation() const noexcept { return generation_; }
  template <class U>
  bool operator==(const ProcessAllocator<U>& other) const noexcept {
    return generation_ == other.generation();
  }

 private:
  std::uint32_t generation_ = process_generation();
};

// Like std::make_shared.
template <class T, class... Args>
[[nodiscard]] std::shared_ptr<T> make_process_shared(Args&&... args) {
  return std::allocate_shared<T>(ProcessAllocator<std::remove_const_t<T>>(), std::forward<Args>(args)...);
}

}  // namespace ray_hixl
