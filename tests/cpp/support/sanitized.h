// What a test repeats, it repeats less often in a sanitizer's build, where each round takes ten times as long and shows more.
#pragma once

#include <string_view>

namespace ray_hixl::test {

inline constexpr std::string_view kSanitizers = RAY_HIXL_SANITIZE;  // of this build
inline constexpr bool kThreadSanitized = kSanitizers.find("thread") != std::string_view::npos;

template <class Number>
constexpr Number unless_sanitized(Number many, Number few) {
  return kSanitizers.empty() ? many : few;
}

}  // namespace ray_hixl::test
