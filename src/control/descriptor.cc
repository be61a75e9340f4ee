#include "control/descriptor.h"

#include <algorithm>
#include <string_view>

#include "control/fields.h"

namespace ray_hixl::control {
namespace {

constexpr std::string_view kEngineMagic = "RHXE";
constexpr std::string_view kRegionMagic = "RHXR";
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kLongestUnixName = 107;  // sockaddr_un::sun_path without the leading zero of an abstract name
constexpr std::size_t kLongestHost = 64;       // an IPv6 address with a scope
constexpr std::uint8_t kRemoteWriteFlag = 1;

// Consumes magic and version; says what is wrong with them.
Status read_prefix(ByteReader& reader, std::string_view magic, std::string_view what) {
  const ByteView found = reader.bytes(magic.size());
  const std::uint16_t version = reader.u16();
  if (!reader.ok()) return {Code::kInvalidArgument, std::string(what) + " is truncated: pass all of its bytes"};
  if (!std::ranges::equal(found, as_bytes(magic))) {
    return {Code::kInvalidArgument, "these bytes are not " + std::string(what) + ": they are " + std::string(say_what_is(found))};
  }
  if (version != kVersion) {
    return {Code::kInvalidArgument, std::string(what) + " has version " + std::to_string(version) + ", this ray-hixl reads version " +
                                        std::to_string(kVersion) + ": run the same ray-hixl on both sides"};
  }
  return Status::ok();
}

Status check_end(const ByteReader& reader, std::string_view what) {
  if (reader.at_end()) return Status::ok();
  const std::string_view why = reader.ok() ? " has trailing bytes" : " is truncated or has a field that is too long";
  return {Code::kInvalidArgument, std::string(what) + std::string(why) + ": pass exactly its bytes"};
}

// The host goes into messages for people.
bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

Result<RemoteRegion> read_region(ByteReader& reader) {
  constexpr std::string_view kWhat = "a region's descriptor";
  RAY_HIXL_RETURN_IF_ERROR(read_prefix(reader, kRegionMagic, kWhat));
  RemoteRegion region;
  region.owner = read_array<sizeof(Incarnation)>(reader);
  region.handle.slot = reader.u32();
  region.handle.generation = reader.u64();
  region.handle.key = reader.u64();
  region.length = reader.u64();
  const std::uint8_t kind = reader.u8();
  region.device = static_cast<std::int32_t>(reader.u32());
  const std::uint8_t flags = reader.u8();
  RAY_HIXL_RETURN_IF_ERROR(check_end(reader, kWhat));
  const auto malformed = [](const char* why) { return Status(Code::kInvalidArgument, std::string("a region's descriptor has ") + why); };
  if (kind > static_cast<std::uint8_t>(MemoryKind::kPinned)) return malformed("an unknown kind of memory");
  region.kind = static_cast<MemoryKind>(kind);
  const bool may_have_device = region.kind != MemoryKind::kHost || region.device == 0;
  if (region.device < 0 || !may_have_device) return malformed("a device index that its kind of memory cannot have");
  if ((flags & ~kRemoteWriteFlag) != 0) return malformed("unknown flags");
  region.remote_write = flags != 0;
  return region;
}

}  // namespace

std::string_view say_what_is(ByteView bytes) {
  const auto begins = [&](std::string_view magic) {
    return std::ranges::equal(bytes.first(std::min(bytes.size(), magic.size())), as_bytes(magic));
  };
  if (begins(kEngineMagic)) return "an engine's descriptor, which connect() takes";
  if (begins(kRegionMagic)) return "a region's descriptor, which region() of a peer takes";
  if (begins(kObjectMagic)) return "the metadata of an object, which fetch() takes";
  return "nothing that ray-hixl gives";
}

std::string EngineDescriptor::name() const {
  std::string name = "engine of process " + std::to_string(pid);
  if (tcp_port == 0) return name;
  const bool is_v6 = tcp_host.find(':') != std::string::npos;
  return name + " at " + (is_v6 ? "[" + tcp_host + "]" : tcp_host) + ":" + std::to_string(tcp_port);
}

std::vector<std::byte> encode(const EngineDescriptor& descriptor) {
  ByteWriter writer;
  writer.bytes(as_bytes(kEngineMagic));
  writer.u16(kVersion);
  writer.bytes(descriptor.incarnation);
  writer.bytes(descriptor.key);
  writer.bytes(descriptor.boot_id);
  writer.u64(descriptor.pid_namespace);
  writer.u64(descriptor.network_namespace);
  writer.u32(descriptor.pid);
  writer.text(descriptor.unix_name);
  writer.text(descriptor.tcp_host);
  writer.u16(descriptor.tcp_port);
  return writer.take();
}

Result<EngineDescriptor> decode_engine(ByteView bytes) {
  constexpr std::string_view kWhat = "an engine's descriptor";
  ByteReader reader(bytes);
  RAY_HIXL_RETURN_IF_ERROR(read_prefix(reader, kEngineMagic, kWhat));
  EngineDescriptor descriptor;
  descriptor.incarnation = read_array<sizeof(Incarnation)>(reader);
  descriptor.key = read_array<sizeof(Key)>(reader);
  descriptor.boot_id = read_array<sizeof(descriptor.boot_id)>(reader);
  descriptor.pid_namespace = reader.u64();
  descriptor.network_namespace = reader.u64();
  descriptor.pid = reader.u32();
  descriptor.unix_name = reader.text(kLongestUnixName);
  descriptor.tcp_host = reader.text(kLongestHost);
  descriptor.tcp_port = reader.u16();
  RAY_HIXL_RETURN_IF_ERROR(check_end(reader, kWhat));
  if (!is_printable(descriptor.tcp_host)) return Status(Code::kInvalidArgument, "an engine's descriptor has a host that is no address");
  return descriptor;
}

std::vector<std::byte> encode(const RemoteRegion& region) {
  ByteWriter writer;
  writer.bytes(as_bytes(kRegionMagic));
  writer.u16(kVersion);
  writer.bytes(region.owner);
  writer.u32(region.handle.slot);
  writer.u64(region.handle.generation);
  writer.u64(region.handle.key);
  writer.u64(region.length);
  writer.u8(static_cast<std::uint8_t>(region.kind));
  writer.u32(static_cast<std::uint32_t>(region.device));
  writer.u8(region.remote_write ? kRemoteWriteFlag : 0);
  return writer.take();
}

Result<RemoteRegion> decode_region(ByteView bytes) {
  ByteReader reader(bytes);
  Result<RemoteRegion> region = read_region(reader);
  if (!region.is_ok()) return Status(Code::kInvalidRegion, region.status().message());
  return region;
}

}  // namespace ray_hixl::control
