// Deadline: a point on the steady clock at which a call gives up. Every call that waits takes one.
#pragma once

#include <chrono>

namespace ray_hixl {

using Clock = std::chrono::steady_clock;

class Deadline {
 public:
  // REQUIRES: timeout is not negative. Very long timeouts saturate to "never".
  [[nodiscard]] static Deadline in(std::chrono::nanoseconds timeout);
  [[nodiscard]] static Deadline at(Clock::time_point when) { return Deadline(when); }
  [[nodiscard]] static Deadline never() { return Deadline(Clock::time_point::max()); }

  [[nodiscard]] bool passed() const { return when_ != Clock::time_point::max() && Clock::now() >= when_; }
  [[nodiscard]] Clock::time_point when() const { return when_; }
  // Zero once passed.
  [[nodiscard]] std::chrono::nanoseconds remaining() const;
  [[nodiscard]] Deadline sooner(Deadline other) const { return Deadline(when_ < other.when_ ? when_ : other.when_); }

 private:
  explicit Deadline(Clock::time_point when) : when_(when) {}
  Clock::time_point when_;
};

// Seconds (as options hold them) to a duration, saturating; negative or NaN becomes zero.
[[nodiscard]] std::chrono::nanoseconds seconds_to_duration(double seconds);

}  // namespace ray_hixl
