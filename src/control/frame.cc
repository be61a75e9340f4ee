#include <algorithm>
#include <string>
#include <utility>

#include "control/frame_codec.h"

namespace ray_hixl::control {
namespace {

Status malformed(std::string why) {
  return {Code::kInvalidArgument, "malformed frame: " + std::move(why) + "; the peer is no ray-hixl engine of this version"};
}

// Of every type that a later version may add.
constexpr MessageInfo kUnknown{{}, "unknown", 0, kLongestUnknownFrame - kFrameHeaderBytes, kMostDescriptors};

}  // namespace

const MessageInfo* find_message(MessageType type) {
  const auto* info = std::ranges::find(kMessages, type, &MessageInfo::type);
  return info == kMessages.end() ? nullptr : info;
}

std::string_view message_name(MessageType type) {
  const MessageInfo* info = find_message(type);
  return info == nullptr ? kUnknown.name : info->name;
}

std::size_t longest_request(MessageType type) {
  const MessageInfo* info = find_message(type);
  return info != nullptr && info->is_request ? kFrameHeaderBytes + info->longest : kLongestUnknownFrame;
}

std::size_t longest_request() {
  std::size_t longest = kLongestUnknownFrame;
  for (const MessageInfo& info : kMessages) longest = std::max(longest, longest_request(info.type));
  return longest;
}

bool is_known(MessageType type) { return find_message(type) != nullptr; }

Status unknown_request(MessageType type) {
  return {Code::kNotAvailable, "this engine speaks version " + std::to_string(kProtocolVersion) +
                                   " of the protocol, which has no request of type " + std::to_string(static_cast<unsigned>(type))};
}

std::optional<FrameHeader> read_header(ByteView bytes) {
  if (bytes.size() < kFrameHeaderBytes) return std::nullopt;
  ByteReader reader(bytes.first(kFrameHeaderBytes));
  FrameHeader header;
  header.size = reader.u32();
  header.type = static_cast<MessageType>(reader.u16());
  header.descriptors = reader.u16();
  header.request = reader.u64();
  return header;
}

Result<std::optional<Frame>> next_frame(ByteView bytes) {
  const std::optional<FrameHeader> header = read_header(bytes);
  if (!header) return std::optional<Frame>();
  Frame frame;
  frame.type = header->type;
  frame.descriptors = header->descriptors;
  frame.request = header->request;
  const MessageInfo* info = find_message(frame.type);
  if (info == nullptr) info = &kUnknown;
  if (header->size < kFrameHeaderBytes + info->shortest || header->size > kFrameHeaderBytes + info->longest) {
    return malformed("a message '" + std::string(info->name) + "' cannot have " + std::to_string(header->size) + " bytes");
  }
  if (frame.descriptors > info->most_descriptors) {
    return malformed("a message '" + std::string(info->name) + "' cannot come with " + std::to_string(frame.descriptors) + " descriptors");
  }
  if (bytes.size() < header->size) return std::optional<Frame>();
  frame.bytes = bytes.first(header->size);
  frame.body = frame.bytes.subspan(kFrameHeaderBytes);
  return std::optional<Frame>(frame);
}

ByteWriter begin_frame(MessageType type, std::uint64_t request, std::uint16_t descriptors) {
  ByteWriter writer;
  writer.u32(0);
  writer.u16(static_cast<std::uint16_t>(type));
  writer.u16(descriptors);
  writer.u64(request);
  return writer;
}

std::vector<std::byte> end_frame(ByteWriter writer) {
  writer.patch_u32(0, static_cast<std::uint32_t>(writer.size()));
  return writer.take();
}

}  // namespace ray_hixl::control
