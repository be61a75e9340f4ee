#include "control/descriptor.h"

#include <gtest/gtest.h>

#include "documented_bytes.h"

namespace ray_hixl::control {
namespace {

using Bytes = std::vector<std::byte>;

EngineDescriptor example_engine() {
  EngineDescriptor descriptor;
  descriptor.incarnation = counting_from<Incarnation>(0x50);
  descriptor.key = counting_from<Key>(0x00);
  descriptor.boot_id = counting_from<std::array<std::byte, 16>>(0x60);
  descriptor.pid_namespace = 0xf0000001;
  descriptor.network_namespace = 0xf0000002;
  descriptor.pid = 4242;
  descriptor.unix_name = "rx-1";
  descriptor.tcp_host = "127.0.0.1";
  descriptor.tcp_port = 45678;
  return descriptor;
}

RemoteRegion example_region() {
  RemoteRegion region;
  region.owner = counting_from<Incarnation>(0x50);
  region.handle = {.slot = 7, .generation = 3, .key = 0x1122334455667788};
  region.length = 4096;
  region.remote_write = true;
  return region;
}

void expect_error(const Status& status, Code code, std::string_view part) {
  EXPECT_EQ(status.code(), code);
  EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
}

constexpr std::size_t kVersionOffset = 4;
constexpr std::size_t kKindOffset = 50;
constexpr std::size_t kDeviceOffset = 51;
constexpr std::size_t kFlagsOffset = 55;

TEST(EngineDescriptor, encodes_to_the_documented_bytes) { EXPECT_EQ(encode(example_engine()), documented("engine_descriptor")); }

TEST(EngineDescriptor, decodes_to_what_was_encoded) {
  const EngineDescriptor in = example_engine();
  const Result<EngineDescriptor> out = decode_engine(encode(in));
  ASSERT_TRUE(out.is_ok()) << out.status().to_string();
  EXPECT_EQ(out->incarnation, in.incarnation);
  EXPECT_EQ(out->key, in.key);
  EXPECT_EQ(out->boot_id, in.boot_id);
  EXPECT_EQ(out->pid_namespace, in.pid_namespace);
  EXPECT_EQ(out->network_namespace, in.network_namespace);
  EXPECT_EQ(out->pid, in.pid);
  EXPECT_EQ(out->unix_name, in.unix_name);
  EXPECT_EQ(out->tcp_host, in.tcp_host);
  EXPECT_EQ(out->tcp_port, in.tcp_port);
}

TEST(EngineDescriptor, may_lack_a_unix_name_and_an_address) {
  EngineDescriptor descriptor = example_engine();
  descriptor.unix_name.clear();
  descriptor.tcp_host.clear();
  descriptor.tcp_port = 0;
  EXPECT_TRUE(decode_engine(encode(descriptor)).is_ok());
}

TEST(EngineDescriptor, cut_at_any_byte_is_called_truncated) {
  const Bytes whole = encode(example_engine());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const Result<EngineDescriptor> out = decode_engine(ByteView(whole).first(size));
    ASSERT_FALSE(out.is_ok()) << size;
    expect_error(out.status(), Code::kInvalidArgument, "truncated");
  }
}

TEST(EngineDescriptor, with_bytes_behind_it_is_refused) {
  Bytes bytes = encode(example_engine());
  bytes.push_back(std::byte{0});
  expect_error(decode_engine(bytes).status(), Code::kInvalidArgument, "trailing");
}

TEST(EngineDescriptor, of_another_version_is_refused_naming_both_versions) {
  Bytes bytes = encode(example_engine());
  bytes[kVersionOffset] = std::byte{9};
  const Status status = decode_engine(bytes).status();
  expect_error(status, Code::kInvalidArgument, "version 9");
  expect_error(status, Code::kInvalidArgument, "version 1");
}

TEST(EngineDescriptor, garbage_and_a_regions_descriptor_are_told_apart) {
  expect_error(decode_engine(Bytes(200, std::byte{0x5a})).status(), Code::kInvalidArgument, "nothing that ray-hixl gives");
  expect_error(decode_engine(encode(example_region())).status(), Code::kInvalidArgument, "a region's descriptor, which region()");
}

TEST(EngineDescriptor, names_that_are_too_long_or_no_address_are_refused) {
  EngineDescriptor descriptor = example_engine();
  descriptor.unix_name.assign(107, 'x');
  EXPECT_TRUE(decode_engine(encode(descriptor)).is_ok());
  descriptor.unix_name.assign(108, 'x');
  EXPECT_EQ(decode_engine(encode(descriptor)).status().code(), Code::kInvalidArgument);
  descriptor = example_engine();
  descriptor.tcp_host.assign(65, '1');
  EXPECT_EQ(decode_engine(encode(descriptor)).status().code(), Code::kInvalidArgument);
  descriptor.tcp_host = "10.0.0.1\nERROR forged log line";
  expect_error(decode_engine(encode(descriptor)).status(), Code::kInvalidArgument, "host");
}

TEST(EngineDescriptor, name_says_process_and_address_and_no_secret) {
  EngineDescriptor descriptor = example_engine();
  descriptor.key.fill(std::byte{'K'});
  descriptor.unix_name = "secret-name";
  EXPECT_EQ(descriptor.name(), "engine of process 4242 at 127.0.0.1:45678");
  descriptor.tcp_host = "fe80::1";
  EXPECT_EQ(descriptor.name(), "engine of process 4242 at [fe80::1]:45678");
  descriptor.tcp_port = 0;
  EXPECT_EQ(descriptor.name(), "engine of process 4242");
}

TEST(RegionDescriptor, encodes_to_the_documented_bytes) { EXPECT_EQ(encode(example_region()), documented("region_descriptor")); }

TEST(RegionDescriptor, decodes_to_what_was_encoded) {
  RemoteRegion in = example_region();
  in.kind = MemoryKind::kDevice;
  in.device = 7;
  in.remote_write = false;
  const Result<RemoteRegion> out = decode_region(encode(in));
  ASSERT_TRUE(out.is_ok()) << out.status().to_string();
  EXPECT_EQ(out->owner, in.owner);
  EXPECT_EQ(out->handle, in.handle);
  EXPECT_EQ(out->length, in.length);
  EXPECT_EQ(out->kind, in.kind);
  EXPECT_EQ(out->device, in.device);
  EXPECT_FALSE(out->remote_write);
  EXPECT_TRUE(decode_region(encode(example_region()))->remote_write);
}

TEST(RegionDescriptor, cut_at_any_byte_is_called_truncated) {
  const Bytes whole = encode(example_region());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    expect_error(decode_region(ByteView(whole).first(size)).status(), Code::kInvalidRegion, "truncated");
  }
}

TEST(RegionDescriptor, trailing_bytes_other_versions_and_other_descriptors_are_refused) {
  Bytes bytes = encode(example_region());
  bytes.push_back(std::byte{0});
  expect_error(decode_region(bytes).status(), Code::kInvalidRegion, "trailing");
  bytes = encode(example_region());
  bytes[kVersionOffset] = std::byte{2};
  expect_error(decode_region(bytes).status(), Code::kInvalidRegion, "version 2");
  expect_error(decode_region(encode(example_engine())).status(), Code::kInvalidRegion, "an engine's descriptor");
}

TEST(RegionDescriptor, fields_out_of_range_are_refused) {
  const auto with = [](std::size_t offset, int value) {
    Bytes bytes = encode(example_region());
    bytes[offset] = static_cast<std::byte>(value);
    return decode_region(bytes).status();
  };
  expect_error(with(kKindOffset, 3), Code::kInvalidRegion, "kind");
  expect_error(with(kDeviceOffset, 1), Code::kInvalidRegion, "device");  // host memory has no device
  expect_error(with(kDeviceOffset + 3, 0x80), Code::kInvalidRegion, "device");
  expect_error(with(kFlagsOffset, 2), Code::kInvalidRegion, "flags");
}

}  // namespace
}  // namespace ray_hixl::control
