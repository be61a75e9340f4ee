#include "transport/stream/inbox.h"

#include <algorithm>
#include <cassert>
#include <cstring>
#include <string>
#include <utility>

namespace ray_hixl::transport::stream {

namespace {

constexpr std::size_t kFirstLong = 4 * Inbox::kShort;

Status no_room(std::size_t bytes) {
  return {Code::kOutOfMemory, "there is no memory for a request of " + std::to_string(bytes) + " bytes"};
}

}  // namespace

Inbox::Inbox(ByteView received) : short_(kShort), end_(received.size()) {
  assert(received.size() <= kShort);
  std::ranges::copy(received, short_.begin());
}

std::span<std::byte> Inbox::room() {
  if (long_) return {long_.get() + long_received_, long_capacity_ - long_received_};
  // Moves less than was taken since the last time, or it makes room for a frame of more than half the buffer: linear in what comes in.
  if (begin_ >= kShort / 2 || end_ == kShort) {
    std::memmove(short_.data(), short_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  return std::span(short_).subspan(end_);
}

void Inbox::received(std::size_t bytes) { (long_ ? long_received_ : end_) += bytes; }

Result<std::optional<Inbox::Taken>> Inbox::next() {
  if (long_ && long_received_ < long_size_) {
    if (long_received_ == long_capacity_ && !grow_long()) return no_room(long_size_);
    return std::optional<Taken>();
  }
  const Result<std::optional<control::Frame>> frame = control::next_frame(long_ ? ByteView(long_.get(), long_size_) : shown());
  if (!frame.is_ok()) return frame.status();
  if (!*frame) {
    const std::optional<control::FrameHeader> header = control::read_header(shown());
    if (header && header->size > kShort) {
      if (control::is_known(header->type) && header->type != control::MessageType::kRead) {
        return Status(Code::kInvalidArgument, "a long message that is no read has no place on a data connection");
      }
      long_size_ = header->size;
      if (!grow_long()) return no_room(long_size_);
      long_received_ = end_ - begin_;
      std::memcpy(long_.get(), short_.data() + begin_, long_received_);
      begin_ = end_ = 0;
    }
    return std::optional<Taken>();
  }
  if (long_) return std::optional<Taken>({**frame, std::shared_ptr<const std::byte[]>(std::move(long_))});
  begin_ += (*frame)->bytes.size();
  if (begin_ == end_) begin_ = end_ = 0;
  return std::optional<Taken>({**frame, nullptr});
}

// realloc, which moves large memory by its pages, where bytes of a vector would be copied.
bool Inbox::grow_long() {
  const std::size_t capacity = long_ ? std::min(long_size_, 2 * long_capacity_) : std::min(long_size_, kFirstLong);
  void* const grown = std::realloc(long_.get(), capacity);
  if (grown == nullptr) return false;
  (void)long_.release();  // realloc has freed it
  long_.reset(static_cast<std::byte*>(grown));
  long_capacity_ = capacity;
  return true;
}

}  // namespace ray_hixl::transport::stream
