// Descriptors: versioned bytes that let another process reach an engine or a region. Capabilities, so secrets: never printed or logged.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "control/auth.h"
#include "ray_hixl/memory.h"
#include "ray_hixl/status.h"

namespace ray_hixl::control {

struct EngineDescriptor {
  Incarnation incarnation{};
  Key key{};  // proves each side to the other
  std::array<std::byte, 16> boot_id{};
  std::uint64_t pid_namespace = 0;
  std::uint64_t network_namespace = 0;
  std::uint32_t pid = 0;  // for messages to people; never trusted
  std::string unix_name;  // abstract socket; empty: none
  std::string tcp_host;
  std::uint16_t tcp_port = 0;

  // "engine of process 123 at 127.0.0.1:4567": how errors and logs name a peer.
  [[nodiscard]] std::string name() const;
};

// What an object's metadata begins with (src/object/metadata.cc).
inline constexpr std::string_view kObjectMagic = "RHXO";

// "an engine's descriptor, which ...": what bytes that are not what was wanted are by their beginning.
[[nodiscard]] std::string_view say_what_is(ByteView bytes);

// Malformed, truncated, trailing bytes or an unknown version: kInvalidArgument saying which.
[[nodiscard]] std::vector<std::byte> encode(const EngineDescriptor& descriptor);
[[nodiscard]] Result<EngineDescriptor> decode_engine(ByteView bytes);
[[nodiscard]] std::vector<std::byte> encode(const RemoteRegion& region);
// Malformed: kInvalidRegion saying why.
[[nodiscard]] Result<RemoteRegion> decode_region(ByteView bytes);

}  // namespace ray_hixl::control
