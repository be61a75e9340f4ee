#include "transport/stream/inbox.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <utility>

namespace ray_hixl::transport::stream {

Inbox::Inbox(ByteView received) : short_(kShort), end_(received.size()) {
  assert(received.size() <= kShort);
  std::ranges::copy(received, short_.begin());
}

std::span<std::byte> Inbox::room() {
  if (long_) return {long_.get() + long_received_, long_size_ - long_received_};
  // Moves less than was taken since the last time, or it makes room for a frame of more than half the buffer: linear in what comes in.
  if (begin_ >= kShort / 2 || end_ == kShort) {
    std::memmove(short_.data(), short_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  return std::span(short_).subspan(end_);
}

void Inbox::received(std::size_t bytes) { (long_ ? long_received_ : end_) += bytes; }

Result<std::optional<Inbox::Taken>> Inbox::next() {
  if (long_ && long_received_ < long_size_) return std::optional<Taken>();
  const Result<std::optional<control::Frame>> frame = control::next_frame(long_ ? ByteView(long_.get(), long_size_) : shown());
  if (!frame.is_ok()) return frame.status();
  if (!*frame) {
    const std::optional<control::FrameHeader> header = control::read_header(shown());
    if (header && header->size > kShort) {
      if (control::is_known(header->type) && header->type != control::MessageType::kRead) {
        return Status(Code::kInvalidArgument, "a long message that is no read has no place on a data connection");
      }
      begin_long(header->size);
    }
    return std::optional<Taken>();
  }
  if (long_) return std::optional<Taken>({**frame, std::exchange(long_, nullptr)});
  begin_ += (*frame)->bytes.size();
  if (begin_ == end_) begin_ = end_ = 0;
  return std::optional<Taken>({**frame, nullptr});
}

void Inbox::begin_long(std::size_t size) {
  long_ = std::shared_ptr<std::byte[]>(new std::byte[size]);  // not filled: pages come as bytes do
  long_size_ = size;
  long_received_ = end_ - begin_;
  std::memcpy(long_.get(), short_.data() + begin_, long_received_);
  begin_ = end_ = 0;
}

}  // namespace ray_hixl::transport::stream
