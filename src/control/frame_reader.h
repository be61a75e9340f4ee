// FrameReader: cuts what a connection received into frames, and ties each descriptor to the frame that announces it.
//
// A frame's descriptors are sent with its first byte. So descriptors that arrive in one piece belong to a frame that begins in that piece;
// where none does, or the frame that does announces another number, the peer breaks the protocol. No more are kept than
// come with two frames: the one that was not complete, and one that began in the same piece. Not thread-safe: one owner.
#pragma once

#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/fd.h"
#include "control/messages.h"
#include "ray_hixl/status.h"

namespace ray_hixl::control {

class FrameReader {
 public:
  struct Received {
    Frame frame;
    std::vector<Fd> descriptors;    // as many as the frame announces, unless
    bool descriptors_lost = false;  // this process had no room for them
    bool alone = false;             // nothing but this frame was shown
  };

  // `bytes`: all that was not consumed, the last `fresh` of them in the piece that just arrived; with it came `descriptors`, and more that
  // this process had no room for if `lost`. Keeps the view until the next call. kInvalidArgument: no frame announces the descriptors.
  [[nodiscard]] Status arrived(ByteView bytes, std::size_t fresh, std::vector<Fd> descriptors, bool lost);
  // The next whole frame of what arrived; nullopt if there is none. kInvalidArgument as next_frame() has it, and where a frame comes with
  // another number of descriptors than it announces. REQUIRES: the frames before were complete.
  [[nodiscard]] Result<std::optional<Received>> next();
  // How many bytes the frames so far had. The rest is to be shown again in front of what arrives next.
  [[nodiscard]] std::size_t consumed() const { return consumed_; }
  // How long the frame behind those will be; 0 while its header is not complete. REQUIRES: next() found none, and no fault.
  [[nodiscard]] std::size_t awaited() const;

 private:
  struct Held {
    std::size_t frame;  // where the frame begins that they came with, in bytes_
    std::vector<Fd> descriptors;
    bool lost;
  };

  ByteView bytes_;
  std::size_t consumed_ = 0;
  std::deque<Held> held_;  // two at most: of the frame that was not complete before, and of one that began in this piece
};

}  // namespace ray_hixl::control
