#include "memory/copy_kernels.h"

#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "base/log.h"

namespace ray_hixl::memory {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kCopiedPage = 4096;
constexpr std::size_t kPagesAtOnce = 4;
constexpr std::size_t kPagesBytes = kPagesAtOnce * kCopiedPage;
constexpr std::size_t kAhead = 256;  // bytes that are fetched before they are needed

[[maybe_unused]] std::size_t bytes_to_line(const std::byte* to) { return -reinterpret_cast<std::uintptr_t>(to) % kLine; }

void copy_cached(std::byte* to, const std::byte* from, std::size_t length) { std::memcpy(to, from, length); }
bool always() { return true; }
void no_fence() {}

#if defined(__x86_64__)

[[gnu::target("avx512f")]] inline void avx512_line(std::byte* to, const std::byte* from) {
  const __m512i line = _mm512_loadu_si512(from);
  _mm_prefetch(reinterpret_cast<const char*>(from + kAhead), _MM_HINT_T0);
  _mm512_stream_si512(reinterpret_cast<__m512i*>(to), line);
}

[[gnu::target("avx2")]] inline void avx2_line(std::byte* to, const std::byte* from) {
  const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 32));
  _mm_prefetch(reinterpret_cast<const char*>(from + kAhead), _MM_HINT_T0);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), low);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to + 32), high);
}

inline void sse2_line(std::byte* to, const std::byte* from) {
  const auto* const source = reinterpret_cast<const __m128i*>(from);
  const __m128i a = _mm_loadu_si128(source);
  const __m128i b = _mm_loadu_si128(source + 1);
  const __m128i c = _mm_loadu_si128(source + 2);
  const __m128i d = _mm_loadu_si128(source + 3);
  _mm_prefetch(reinterpret_cast<const char*>(from + kAhead), _MM_HINT_T0);
  auto* const target = reinterpret_cast<__m128i*>(to);
  _mm_stream_si128(target, a);
  _mm_stream_si128(target + 1, b);
  _mm_stream_si128(target + 2, c);
  _mm_stream_si128(target + 3, d);
}

#define TARGET [[gnu::target("avx512f")]]
#define STREAM_LINE avx512_line
#define STRAIGHT avx512_straight
#define PAGES avx512_pages
#include "memory/stream_copy.inc"
#undef TARGET
#undef STREAM_LINE
#undef STRAIGHT
#undef PAGES

#define TARGET [[gnu::target("avx2")]]
#define STREAM_LINE avx2_line
#define STRAIGHT avx2_straight
#define PAGES avx2_pages
#include "memory/stream_copy.inc"
#undef TARGET
#undef STREAM_LINE
#undef STRAIGHT
#undef PAGES

#define TARGET
#define STREAM_LINE sse2_line
#define STRAIGHT sse2_straight
#define PAGES sse2_pages
#include "memory/stream_copy.inc"
#undef TARGET
#undef STREAM_LINE
#undef STRAIGHT
#undef PAGES

bool has_avx512() { return __builtin_cpu_supports("avx512f") != 0; }
bool has_avx2() { return __builtin_cpu_supports("avx2") != 0; }
void fence() { _mm_sfence(); }
bool likes_pages() { return __builtin_cpu_is("intel") != 0; }

constexpr std::array kKernels{
    CopyKernel{"avx512-pages", has_avx512, avx512_pages, fence}, CopyKernel{"avx512", has_avx512, avx512_straight, fence},
    CopyKernel{"avx2-pages", has_avx2, avx2_pages, fence},       CopyKernel{"avx2", has_avx2, avx2_straight, fence},
    CopyKernel{"sse2-pages", always, sse2_pages, fence},         CopyKernel{"sse2", always, sse2_straight, fence},
    CopyKernel{"memcpy", always, copy_cached, no_fence},
};

#elif defined(__aarch64__)

// stnp: nobody will need the line soon.
inline void neon_line(std::byte* to, const std::byte* from) {
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(from);
  const uint8x16_t a = vld1q_u8(bytes);
  const uint8x16_t b = vld1q_u8(bytes + 16);
  const uint8x16_t c = vld1q_u8(bytes + 32);
  const uint8x16_t d = vld1q_u8(bytes + 48);
  __builtin_prefetch(from + kAhead);
  asm volatile("stnp %q1, %q2, [%0]\n\tstnp %q3, %q4, [%0, #32]" : : "r"(to), "w"(a), "w"(b), "w"(c), "w"(d) : "memory");
}

#define TARGET
#define STREAM_LINE neon_line
#define STRAIGHT neon_straight
#define PAGES neon_pages
#include "memory/stream_copy.inc"
#undef TARGET
#undef STREAM_LINE
#undef STRAIGHT
#undef PAGES

void fence() { std::atomic_thread_fence(std::memory_order_release); }
bool likes_pages() { return false; }

constexpr std::array kKernels{
    CopyKernel{"neon-pages", always, neon_pages, fence},
    CopyKernel{"neon", always, neon_straight, fence},
    CopyKernel{"memcpy", always, copy_cached, no_fence},
};

#else

bool likes_pages() { return false; }
constexpr std::array kKernels{CopyKernel{"memcpy", always, copy_cached, no_fence}};

#endif

std::string_view wanted_name() {
  const char* const name = std::getenv("RAY_HIXL_COPY_KERNEL");
  return name == nullptr ? "" : name;
}

bool suits(const CopyKernel& kernel) { return kernel.runs_here() && (likes_pages() || !std::string_view(kernel.name).ends_with("-pages")); }

}  // namespace

std::span<const CopyKernel> copy_kernels() { return kKernels; }

const CopyKernel& find_copy_kernel(std::string_view name) {
  const auto named = std::ranges::find(kKernels, name, &CopyKernel::name);
  return named != kKernels.end() && named->runs_here() ? *named : *std::ranges::find_if(kKernels, suits);
}

const CopyKernel& copy_kernel() {
  static const CopyKernel& chosen = find_copy_kernel(wanted_name());
  return chosen;
}

std::uint64_t most_cached_bytes() {
  static const std::uint64_t kMostCached = [] {
    constexpr std::uint64_t kUsual = std::uint64_t{1} << 20;  // where the system does not say
    const long cache = ::sysconf(_SC_LEVEL2_CACHE_SIZE);
    return 2 * (cache > 0 ? static_cast<std::uint64_t>(cache) : kUsual);
  }();
  return kMostCached;
}

void choose_copying() {
  (void)most_cached_bytes();
  const CopyKernel& kernel = copy_kernel();
  if (const std::string_view name = wanted_name(); !name.empty() && name != kernel.name) {
    log(LogLevel::kWarning,
        "RAY_HIXL_COPY_KERNEL=" + std::string(name) + " names no copy kernel that runs on this CPU: " + kernel.name + " copies");
  }
}

}  // namespace ray_hixl::memory
