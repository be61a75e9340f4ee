// HIXL's status codes, and what each means for a link. Values are facts of its interface; anything else may occur, too: raw errors of the
// runtime leak through, and count as fatal but for want of memory.
#pragma once

#include <cstdint>
#include <string>

namespace ray_hixl::transport::hixl {

using HixlCode = std::uint32_t;

inline constexpr HixlCode kHixlOk = 0;
inline constexpr HixlCode kParamInvalid = 103900;
inline constexpr HixlCode kTimeout = 103901;
inline constexpr HixlCode kNotConnected = 103902;
inline constexpr HixlCode kAlreadyConnected = 103903;
inline constexpr HixlCode kUnsupported = 103905;
inline constexpr HixlCode kResourceExhausted = 203900;
inline constexpr HixlCode kFailed = 503900;

// Errors of the runtime: out of memory on the host, the device, or of a resource that counts as such.
[[nodiscard]] bool is_out_of_memory(std::uint32_t error);

// What a link does about the code of a transfer.
enum class Verdict : std::uint8_t {
  kFine,
  kStale,      // the link does not know the memory: connect anew, once
  kBusy,       // nothing was done: try again
  kNoMemory,   // the same, for want of the memory that each request takes
  kLinkBroken  // disconnect before anything else
};
[[nodiscard]] Verdict judge(HixlCode code);

// "PARAM_INVALID (103900)", "error 507046".
[[nodiscard]] std::string describe(HixlCode code);

}  // namespace ray_hixl::transport::hixl
