// The one place that knows a frame's header. Private to control.
#pragma once

#include <array>
#include <string_view>

#include "control/messages.h"
#include "control/status_codec.h"

namespace ray_hixl::control {

inline constexpr std::size_t kHandleBytes = 20;
inline constexpr std::size_t kRangeBytes = 16;
inline constexpr std::size_t kSegmentBytes = 20;
inline constexpr std::size_t kSpanBytes = kHandleBytes + 16;
inline constexpr std::size_t kDeviceRangeBytes = 36;
inline constexpr std::size_t kStatusBytes = 3;     // without the message
inline constexpr std::size_t kTransportBytes = 5;  // without the details
inline constexpr std::size_t kWelcomeHeadBytes = 18;
inline constexpr std::size_t kDeviceDescriptionBytes = 16;  // without the texts

// What a header alone says about a message.
struct MessageInfo {
  MessageType type;
  std::string_view name;
  std::size_t shortest;  // bytes of its body
  std::size_t longest;
  std::uint16_t most_descriptors = 0;
  bool is_request = false;  // which a client sends over its control connection
};

inline constexpr std::array kMessages = {
    MessageInfo{MessageType::kWelcome, "welcome", kWelcomeHeadBytes,
                kWelcomeHeadBytes + Welcome::kMostTransports*(kTransportBytes + Welcome::kLongestDetails), 1},
    MessageInfo{MessageType::kResolve, "resolve", kHandleBytes, kHandleBytes, 0, true},
    MessageInfo{MessageType::kResolved, "resolved", 8, 8 + Resolved::kMostRanges* kRangeBytes + Resolved::kMostSegments* kSegmentBytes},
    MessageInfo{MessageType::kMapSegment, "map_segment", 4, 4, 0, true},
    MessageInfo{MessageType::kSegment, "segment", 8, 8, 1},
    MessageInfo{MessageType::kSegmentRetired, "segment_retired", 4, 4},
    MessageInfo{MessageType::kRead, "read", 4, 4 + Read::kMostSpans* kSpanBytes},
    MessageInfo{MessageType::kReading, "reading", 8, 8},
    MessageInfo{MessageType::kReadEnd, "read_end", kStatusBytes, kStatusBytes + kLongestStatusMessage},
    MessageInfo{MessageType::kFailure, "failure", kStatusBytes, kStatusBytes + kLongestStatusMessage},
    MessageInfo{MessageType::kLocate, "locate", kHandleBytes, kHandleBytes, 0, true},
    MessageInfo{MessageType::kLocated, "located", 4, 4 + Located::kMostRanges* kDeviceRangeBytes},
    MessageInfo{MessageType::kDescribeDevice, "describe_device", 4, 4, 0, true},
    MessageInfo{MessageType::kDeviceDescription, "device_description", kDeviceDescriptionBytes + 1,
                kDeviceDescriptionBytes + DeviceDescription::kLongestEngine + DeviceDescription::kLongestFingerprint},
    MessageInfo{MessageType::kCheck, "check", 4, 4 + Check::kMostHandles* kHandleBytes, 0, true},
    MessageInfo{MessageType::kChecked, "checked", 0, 0},
    MessageInfo{MessageType::kAwaitRecall, "await_recall", 7, 6 + DeviceDescription::kLongestEngine, 0, true},
    MessageInfo{MessageType::kRecalled, "recalled", 0, 0},
    MessageInfo{MessageType::kReleaseDevice, "release_device", 7, 6 + DeviceDescription::kLongestEngine, 0, true},
    MessageInfo{MessageType::kReleased, "released", 0, 0},
    MessageInfo{MessageType::kCannotLink, "cannot_link", 7, 6 + DeviceDescription::kLongestEngine, 0, true},
    MessageInfo{MessageType::kNoted, "noted", 1, 1},
    MessageInfo{MessageType::kStage, "stage", 8, 8 + Stage::kMostReturned* kHandleBytes + Stage::kMostSpans* kSpanBytes, 0, true},
    MessageInfo{MessageType::kStaged, "staged", kHandleBytes + 20, kHandleBytes + 20},
};

constexpr bool every_message_fits_a_frame() {
  for (const MessageInfo& info : kMessages) {
    if (kFrameHeaderBytes + info.longest > kLongestFrame) return false;
  }
  return true;
}
static_assert(every_message_fits_a_frame());

// Null if there is no such type.
[[nodiscard]] const MessageInfo* find_message(MessageType type);
// A header whose size is not known yet; end_frame() puts it in.
[[nodiscard]] ByteWriter begin_frame(MessageType type, std::uint64_t request, std::uint16_t descriptors);
[[nodiscard]] std::vector<std::byte> end_frame(ByteWriter writer);

}  // namespace ray_hixl::control
