// Subject: what an error about something that a user handed over is about.
#pragma once

#include <cstddef>
#include <string>

namespace ray_hixl::python {

class Subject {
 public:
  static Subject tensor(std::size_t index) { return {"tensor", index}; }
  static Subject target(std::size_t index) { return {"target", index}; }
  // `what` outlives it.
  static Subject named(const char* what) { return {what, kNone}; }

  [[nodiscard]] std::string text() const { return index_ == kNone ? noun_ : noun_ + (" " + std::to_string(index_)); }

 private:
  static constexpr auto kNone = static_cast<std::size_t>(-1);
  Subject(const char* noun, std::size_t index) : noun_(noun), index_(index) {}

  const char* noun_;
  std::size_t index_;
};

}  // namespace ray_hixl::python
