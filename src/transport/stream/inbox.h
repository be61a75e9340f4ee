// Inbox: what came in on a data connection of the owner, cut into frames. Knows no socket.
//
// Each byte is moved a bounded number of times, however many frames come at once, and nothing is filled before it is received. A frame that
// is longer than most gets memory of its own, which who takes it may keep.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "control/messages.h"
#include "ray_hixl/status.h"

namespace ray_hixl::transport::stream {

class Inbox {
 public:
  static constexpr std::size_t kShort = 16 * 1024;  // bytes of a frame that shares memory with others

  // A frame, good until the next call; a long one for as long as `memory` is kept.
  struct Taken {
    control::Frame frame;
    std::shared_ptr<const std::byte[]> memory;  // null: a short one
  };

  // `received`: what came in already, at most kShort bytes.
  explicit Inbox(ByteView received);

  // Where the next bytes go; never empty. REQUIRES: next() gave nothing.
  [[nodiscard]] std::span<std::byte> room();
  // So many bytes of room() were received.
  void received(std::size_t bytes);
  // The next whole frame; nullopt if there is none. kInvalidArgument as control::next_frame() has it, kOutOfMemory if a long one
  // finds no room.
  [[nodiscard]] Result<std::optional<Taken>> next();
  [[nodiscard]] bool empty() const { return begin_ == end_ && !long_; }

 private:
  struct Freed {
    void operator()(std::byte* bytes) const { std::free(bytes); }
  };
  [[nodiscard]] ByteView shown() const { return std::span(short_).subspan(begin_, end_ - begin_); }
  [[nodiscard]] bool grow_long();

  std::vector<std::byte> short_;  // what came in and was not taken is [begin_, end_)
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  // The frame that is being received, if it is a long one. Its memory grows as it comes: a length that is only named costs nothing.
  std::unique_ptr<std::byte[], Freed> long_;
  std::size_t long_size_ = 0;
  std::size_t long_capacity_ = 0;
  std::size_t long_received_ = 0;
};

}  // namespace ray_hixl::transport::stream
