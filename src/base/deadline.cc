#include "base/deadline.h"

#include <cmath>

namespace ray_hixl {

Deadline Deadline::in(std::chrono::nanoseconds timeout) {
  const auto now = Clock::now();
  if (timeout >= Clock::time_point::max() - now) return never();
  return Deadline(now + timeout);
}

std::chrono::nanoseconds Deadline::remaining() const {
  if (when_ == Clock::time_point::max()) return std::chrono::nanoseconds::max();
  const auto now = Clock::now();
  return when_ > now ? when_ - now : std::chrono::nanoseconds::zero();
}

std::chrono::nanoseconds seconds_to_duration(double seconds) {
  if (!(seconds > 0)) return std::chrono::nanoseconds::zero();
  constexpr double kLongest = 9.0e9;  // about 285 years, what 63 bits of nanoseconds hold
  if (seconds >= kLongest) return std::chrono::nanoseconds::max();
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::llround(seconds * 1e9)));
}

}  // namespace ray_hixl
