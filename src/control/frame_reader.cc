#include "control/frame_reader.h"

#include <string>
#include <utility>

namespace ray_hixl::control {
namespace {

Status nobody_announced(std::size_t count) {
  return {Code::kInvalidArgument, "malformed frame: " + std::to_string(count) + " file descriptors came that no frame announces"};
}

// Where the frame begins that announces descriptors, among those that begin at `from` or behind. A header that is not complete yet may
// still announce some, and it is the last one. Nullopt if there is none.
std::optional<std::size_t> find_announcing(ByteView bytes, std::size_t from) {
  std::size_t start = 0;
  while (start < bytes.size()) {
    const ByteView rest = bytes.subspan(start);
    const std::optional<FrameHeader> header = read_header(rest);
    if (start >= from && (!header || header->descriptors > 0)) return start;
    if (!header || header->size < kFrameHeaderBytes) return std::nullopt;
    start += header->size;
  }
  return std::nullopt;
}

}  // namespace

Status FrameReader::arrived(ByteView bytes, std::size_t fresh, std::vector<Fd> descriptors, bool lost) {
  for (Held& held : held_) held.frame -= consumed_;
  bytes_ = bytes;
  consumed_ = 0;
  if (descriptors.empty() && !lost) return Status::ok();
  const std::optional<std::size_t> frame = find_announcing(bytes, bytes.size() - fresh);
  if (!frame) return nobody_announced(descriptors.size());
  held_.push_back({*frame, std::move(descriptors), lost});
  return Status::ok();
}

Result<std::optional<FrameReader::Received>> FrameReader::next() {
  const Result<std::optional<Frame>> frame = next_frame(bytes_.subspan(consumed_));
  if (!frame.is_ok()) return frame.status();
  if (!*frame) return std::optional<Received>();
  Received received;
  received.frame = **frame;
  if (!held_.empty() && held_.front().frame == consumed_) {
    received.descriptors = std::move(held_.front().descriptors);
    received.descriptors_lost = held_.front().lost;
    held_.pop_front();
  }
  const std::size_t came = received.descriptors.size();
  const std::size_t announced = received.frame.descriptors;
  if (came > announced) return nobody_announced(came - announced);
  if (came < announced && !received.descriptors_lost) {
    return Status(Code::kInvalidArgument, "malformed frame: a message '" + std::string(message_name(received.frame.type)) +
                                              "' came without the file descriptors that it announces");
  }
  received.alone = received.frame.bytes.size() == bytes_.size();
  consumed_ += received.frame.bytes.size();
  return std::optional<Received>(std::move(received));
}

std::size_t FrameReader::awaited() const {
  const std::optional<FrameHeader> header = read_header(bytes_.subspan(consumed_));
  return header ? header->size : 0;
}

}  // namespace ray_hixl::control
