// What a test repeats, it repeats less often in a sanitizer's build, where each round takes ten times as long and shows more.
#pragma once

namespace ray_hixl::test {

#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kThreadSanitized = __has_feature(thread_sanitizer);
#else
inline constexpr bool kThreadSanitized = false;
#endif

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitized = true;
#elif defined(__has_feature)
inline constexpr bool kAddressSanitized = __has_feature(address_sanitizer);
#else
inline constexpr bool kAddressSanitized = false;
#endif

template <class Number>
constexpr Number unless_sanitized(Number many, Number few) {
  return kThreadSanitized || kAddressSanitized ? few : many;
}

}  // namespace ray_hixl::test
