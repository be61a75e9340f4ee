// Moves the bytes of a request.
#pragma once

#include <functional>

#include "hixl/request.h"

namespace fake_hixl {

enum class Moved {
  kAll,
  kStopped,  // because the caller of move() said so
  kPeerGone,
  kUnregistered,  // a region's key is no longer valid, or its memory cannot be reached
};

// Moves at most `most` bytes, in chunks; asks before each whether to stop.
[[nodiscard]] Moved move(const Path& path, const Request& request, std::size_t most, const std::function<bool()>& is_stopped);
// What is on its way arrives, whether the link still exists or not.
void move_late(const Path& path, const Request& request);
[[nodiscard]] std::size_t size_of(const Request& request);
// Makes one of the bytes that were delivered wrong.
void garble(const Path& path, const Request& request);

}  // namespace fake_hixl
