#include <algorithm>
#include <string>
#include <utility>

#include "control/frame_codec.h"

namespace ray_hixl::control {
namespace {

Status malformed(std::string why) {
  return {Code::kInvalidArgument, "malformed frame: " + std::move(why) + "; the peer is no ray-hixl engine of this version"};
}

}  // namespace

const MessageInfo* find_message(MessageType type) {
  const auto* info = std::ranges::find(kMessages, type, &MessageInfo::type);
  return info == kMessages.end() ? nullptr : info;
}

std::string_view message_name(MessageType type) {
  const MessageInfo* info = find_message(type);
  return info == nullptr ? "unknown" : info->name;
}

Result<std::optional<Frame>> next_frame(ByteView bytes) {
  if (bytes.size() < kFrameHeaderBytes) return std::optional<Frame>();
  ByteReader header(bytes.first(kFrameHeaderBytes));
  Frame frame;
  frame.size = header.u32();
  frame.type = static_cast<MessageType>(header.u16());
  const std::uint16_t reserved = header.u16();
  frame.request = header.u64();
  const MessageInfo* info = find_message(frame.type);
  if (info == nullptr) return malformed("unknown message type " + std::to_string(static_cast<unsigned>(frame.type)));
  if (reserved != 0) return malformed("reserved bits are set");
  if (frame.size < kFrameHeaderBytes + info->shortest || frame.size > kFrameHeaderBytes + info->longest) {
    return malformed("a message '" + std::string(info->name) + "' cannot have " + std::to_string(frame.size) + " bytes");
  }
  if (bytes.size() < frame.size) return std::optional<Frame>();
  frame.body = bytes.subspan(kFrameHeaderBytes, frame.size - kFrameHeaderBytes);
  return std::optional<Frame>(frame);
}

ByteWriter begin_frame(MessageType type, std::uint64_t request) {
  ByteWriter writer;
  writer.u32(0);
  writer.u16(static_cast<std::uint16_t>(type));
  writer.u16(0);
  writer.u64(request);
  return writer;
}

std::vector<std::byte> end_frame(ByteWriter writer) {
  writer.patch_u32(0, static_cast<std::uint32_t>(writer.size()));
  return writer.take();
}

}  // namespace ray_hixl::control
