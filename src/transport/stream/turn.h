// How much a system call, and a turn of the event loop, move on one data connection.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ray_hixl::transport::stream {

constexpr std::size_t kMostVectors = 512;
constexpr std::uint64_t kCallBytes = std::uint64_t{1} << 20;
constexpr std::uint64_t kTurnBytes = std::uint64_t{4} << 20;  // then other connections have their turn: about a millisecond

}  // namespace ray_hixl::transport::stream
