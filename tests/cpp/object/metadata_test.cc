#include "object/metadata.h"

#include <random>

#include "control/documented_bytes.h"
#include "object/fixtures.h"

namespace ray_hixl::test {
namespace {

using testing::HasSubstr;

const std::vector<Layout> kLayouts = {{"float32", 4, {512, 3}}, {"bool", 1, {}}, {"float32", 4, {0}}};

const std::vector<Metadata::Placement> kPlacements = {{10, 100, 2, 4, 0x12c1c0000000, 512}, {300, 2, 3, 1, 0x12c1c0000200, 1}};

ObjectDescription describe(const std::vector<Layout>& layouts, const std::vector<Metadata::Run>& runs) {
  static const Bytes engine = {std::byte{0xee}, std::byte{0xdd}};
  ObjectDescription object;
  object.engine = engine;
  object.handle = {7, 3, 0x1122334455667788};
  object.layouts = layouts;
  object.runs = runs;
  return object;
}

Bytes example() {
  const std::vector<Metadata::Run> runs = {{0, 0, 300}, {1, 300, 1}, {2, 301, 2}};
  ObjectDescription object = describe(kLayouts, runs);
  object.placements = kPlacements;
  return encode_metadata(object);
}

Status decode_error(const Bytes& bytes) { return Metadata::decode(bytes).status(); }

TEST(Metadata, encodes_to_the_documented_bytes) { EXPECT_EQ(example(), control::documented("object_metadata")); }

TEST(Metadata, decodes_what_was_encoded) {
  const Metadata metadata = Metadata::decode(example()).value();
  EXPECT_THAT(metadata.error(), IsOk());
  EXPECT_EQ(metadata.engine().size(), 2u);
  EXPECT_EQ(metadata.handle(), (Handle{7, 3, 0x1122334455667788}));
  EXPECT_EQ(metadata.layouts(), kLayouts);
  EXPECT_EQ(metadata.size(), 303u);
  EXPECT_EQ(metadata.bytes(), 300u * 512 * 3 * 4 + 1);
  EXPECT_EQ(metadata.layout_of(0), 0u);
  EXPECT_EQ(metadata.layout_of(299), 0u);
  EXPECT_EQ(metadata.layout_of(300), 1u);
  EXPECT_EQ(metadata.layout_of(302), 2u);
  EXPECT_EQ(metadata.placements(), kPlacements);
}

TEST(Metadata, carries_an_error_beside_the_tensors) {
  ObjectDescription object = describe(kLayouts, {});
  const std::vector<Metadata::Run> runs = {{1, 0, 2}};
  object.runs = runs;
  object.handle = {};
  object.error = Status(Code::kUnsupportedTensor, "tensor 0 is sparse");
  const Metadata metadata = Metadata::decode(encode_metadata(object)).value();
  EXPECT_THAT(metadata.error(), FailsWith(Code::kUnsupportedTensor));
  EXPECT_EQ(metadata.error().message(), "tensor 0 is sparse");
  EXPECT_EQ(metadata.size(), 2u);
}

TEST(Metadata, cuts_a_long_error_message) {
  ObjectDescription object = describe({}, {});
  object.error = Status(Code::kInternal, std::string(10000, 'x'));
  EXPECT_EQ(Metadata::decode(encode_metadata(object))->error().message(), std::string(4096, 'x'));
}

TEST(Metadata, takes_at_most_16_bytes_a_tensor_even_if_all_differ) {
  constexpr std::uint32_t kTensors = 10000;
  std::vector<Layout> layouts;
  std::vector<Metadata::Run> runs;
  for (std::uint32_t i = 0; i < kTensors; ++i) {
    layouts.push_back({"bfloat16", 2, {32, 128 + i, 4096}});
    append_tensor(runs, i);
  }
  EXPECT_LE(encode_metadata(describe(layouts, runs)).size(), 16u * kTensors);
}

TEST(Metadata, joins_consecutive_tensors_of_one_layout) {
  std::vector<Metadata::Run> runs;
  for (const std::uint32_t layout : {0u, 0u, 1u, 0u, 0u, 0u}) append_tensor(runs, layout);
  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0].count, 2u);
  EXPECT_EQ(runs[1].first, 2u);
  EXPECT_EQ(runs[2].first, 3u);
  EXPECT_EQ(runs[2].count, 3u);
}

TEST(Metadata, head_is_read_alone) {
  const Bytes bytes = example();
  const MetadataHead head = decode_head(bytes).value();
  EXPECT_EQ(head.handle, (Handle{7, 3, 0x1122334455667788}));
  EXPECT_EQ(head.engine.size(), 2u);
  EXPECT_TRUE(decode_head(std::span(bytes).first(32)).is_ok());
  EXPECT_THAT(decode_head(std::span(bytes).first(31)).status(), FailsWith(Code::kInvalidArgument));
}

TEST(Metadata, refuses_every_truncation_and_trailing_bytes) {
  Bytes bytes = example();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THAT(Metadata::decode(std::span(bytes).first(length)).status(), FailsWith(Code::kInvalidArgument)) << length;
  }
  bytes.push_back(std::byte{0});
  EXPECT_THAT(decode_error(bytes), FailsWith(Code::kInvalidArgument));
}

TEST(Metadata, names_another_version) {
  Bytes bytes = example();
  bytes[4] = std::byte{2};
  EXPECT_THAT(decode_error(bytes), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(decode_error(bytes).message(), HasSubstr("version 2"));
}

// Where things stand in the documented example.
constexpr std::size_t kTypes = 35, kFirstItem = 45, kLayoutCount = 53, kDimensions = 55, kRunCount = 64, kRunLayout = 65, kRunLength = 66;
constexpr std::size_t kPlacementCount = 72, kPlaceFirst = 73, kPlaceCount = 74, kPlaceAlignment = 84, kSecondFirst = 86, kSecondCount = 88;

TEST(Metadata, refuses_numbers_out_of_bounds) {
  struct Change {
    const char* what;
    std::size_t at;
    unsigned value;
  };
  for (const Change& change :
       {Change{"magic", 0, 0}, Change{"engine length", 26, 0xff}, Change{"engine length", 28, 0xff}, Change{"type count", kTypes, 0x7f},
        Change{"item bytes", kFirstItem, 0}, Change{"layout count", kLayoutCount, 0x7f}, Change{"type of a layout", kLayoutCount + 1, 2},
        Change{"dimensions", kDimensions, 0x41}, Change{"run count", kRunCount, 0x7f}, Change{"layout of a run", kRunLayout, 3},
        Change{"placement count", kPlacementCount, 0x7f}, Change{"tensors of a placement", kPlaceCount, 0},
        Change{"alignment", kPlaceAlignment, 0x81}, Change{"tensors of the last placement", kSecondCount, 4},
        Change{"first tensor of the last placement", kSecondFirst, 0xff}}) {
    Bytes bytes = example();
    bytes[change.at] = static_cast<std::byte>(change.value);
    EXPECT_THAT(decode_error(bytes), FailsWith(Code::kInvalidArgument)) << change.what;
  }
  Bytes empty_run = example();
  empty_run[kRunLength] = std::byte{0x80};
  empty_run[kRunLength + 1] = std::byte{0x00};
  EXPECT_THAT(decode_error(empty_run), FailsWith(Code::kInvalidArgument));
}

TEST(Metadata, refuses_an_item_size_that_is_not_its_types) {
  for (const Layout& lying : {Layout{"float32", 1, {1024}}, Layout{"bfloat16", 4, {}}, Layout{"bool", 2, {3}}}) {
    const Status refused = decode_error(encode_metadata(describe({lying}, {{0, 0, 1}})));
    EXPECT_THAT(refused, FailsWith(Code::kInvalidArgument)) << lying.dtype;
    EXPECT_THAT(refused.message(), HasSubstr("an element of type " + lying.dtype + " has"));
  }
  EXPECT_THAT(decode_error(encode_metadata(describe({{"float9_unheard_of", 3, {2}}}, {{0, 0, 1}}))), IsOk());
}

TEST(Metadata, refuses_sizes_that_overflow) {
  const std::uint64_t big = std::uint64_t{1} << 40;
  const std::vector<Layout> product = {{"uint8", 1, {big, big}}};
  EXPECT_THAT(decode_error(encode_metadata(describe(product, {{0, 0, 1}}))), FailsWith(Code::kInvalidArgument));
  const std::vector<Layout> items = {{"x", 1u << 16, {std::uint64_t{1} << 50}}};
  EXPECT_THAT(decode_error(encode_metadata(describe(items, {{0, 0, 1}}))), FailsWith(Code::kInvalidArgument));
  const std::vector<Layout> large = {uint8_layout(std::uint64_t{1} << 62)};
  EXPECT_THAT(decode_error(encode_metadata(describe(large, {{0, 0, 1}}))), IsOk());
  EXPECT_THAT(decode_error(encode_metadata(describe(large, {{0, 0, 2}}))), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(decode_error(encode_metadata(describe(large, {{0, 0, 8}}))), FailsWith(Code::kInvalidArgument));  // 2^65
  const std::vector<Layout> zero = {{"uint8", 1, {big, 0, big, big}}};
  EXPECT_EQ(Metadata::decode(encode_metadata(describe(zero, {{0, 0, 5}})))->bytes(), 0u);
}

TEST(Metadata, refuses_too_many_tensors) {
  const std::vector<Layout> layouts = {uint8_layout(0)};
  EXPECT_THAT(decode_error(encode_metadata(describe(layouts, {{0, 0, 1u << 24}}))), IsOk());
  EXPECT_THAT(decode_error(encode_metadata(describe(layouts, {{0, 0, (1u << 24) + 1}}))), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(decode_error(encode_metadata(describe(layouts, {{0, 0, 1u << 24}, {0, 0, ~std::uint64_t{0}}}))),
              FailsWith(Code::kInvalidArgument));
}

// The outcome for tensors of 6144 bytes (0 to 299), one of 1 byte (300) and two without any.
Status decode_error(const std::vector<Metadata::Placement>& placements, Status error = Status::ok()) {
  const std::vector<Metadata::Run> runs = {{0, 0, 300}, {1, 300, 1}, {2, 301, 2}};
  ObjectDescription object = describe(kLayouts, runs);
  object.placements = placements;
  object.error = std::move(error);
  return decode_error(encode_metadata(object));
}

TEST(Metadata, accepts_placements_at_their_limits) {
  EXPECT_THAT(decode_error({{0, 303, 0xffff, ~std::uint64_t{0}, 1, 4096}}), IsOk());
  EXPECT_THAT(decode_error({{302, 1, 0, 0, ~std::uint64_t{0}, 1}}), IsOk());
  EXPECT_THAT(decode_error({{0, 1, 0, 0, 1, 1}, {1, 1, 1, 0, 1, 2}, {302, 1, 0, 0, 1, 1}}), IsOk());
}

TEST(Metadata, refuses_placements_beyond_their_limits) {
  const Metadata::Placement good{10, 20, 1, 1, 0x1000, 512};
  ASSERT_THAT(decode_error({good}), IsOk());
  const auto expect_refused = [&](const char* what, auto change, std::string_view why) {
    Metadata::Placement bad = good;
    change(bad);
    const Status status = decode_error({bad});
    EXPECT_THAT(status, FailsWith(Code::kInvalidArgument)) << what;
    EXPECT_THAT(status.message(), HasSubstr("placement 0: " + std::string(why))) << what;
  };
  expect_refused("empty", [](auto& bad) { bad.count = 0; }, "it is empty");
  expect_refused("first behind all", [](auto& bad) { bad.first = 303; }, "it is empty, names a tensor that there is not");
  expect_refused("one too many", [](auto& bad) { bad.count = 294; }, "it is empty, names");
  expect_refused("far too many", [](auto& bad) { bad.count = ~std::uint64_t{0}; }, "it is empty, names");
  expect_refused("device", [](auto& bad) { bad.device = 1 << 16; }, "a device index is below 65536");
  expect_refused("negative device", [](auto& bad) { bad.device = -1; }, "a device index");
  expect_refused("address", [](auto& bad) { bad.address = 0; }, "it has no address");
  for (const std::uint64_t alignment : {std::uint64_t{0}, std::uint64_t{3}, std::uint64_t{8192}, ~std::uint64_t{0}}) {
    expect_refused("alignment", [&](auto& bad) { bad.alignment = alignment; }, "an alignment is a power of two of at most 4096");
  }
}

TEST(Metadata, refuses_two_places_of_one_tensor) {
  EXPECT_THAT(decode_error({{10, 20, 1, 1, 0x1000, 1}, {30, 1, 1, 1, 0x1000, 1}}), IsOk());
  const Status overlap = decode_error({{10, 20, 1, 1, 0x1000, 1}, {29, 1, 1, 1, 0x1000, 1}});
  EXPECT_THAT(overlap, FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(overlap.message(), HasSubstr("placement 1"));
  EXPECT_THAT(decode_error({{10, 20, 1, 1, 0x1000, 1}, {0, 1, 1, 1, 0x1000, 1}}), FailsWith(Code::kInvalidArgument));
}

TEST(Metadata, refuses_addresses_that_overflow) {
  constexpr std::uint64_t kTop = ~std::uint64_t{0};
  EXPECT_THAT(decode_error({{0, 1, 0, 0, kTop - 6144, 1}}), IsOk());
  EXPECT_THAT(decode_error({{0, 1, 0, 0, kTop - 6143, 1}}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(decode_error({{0, 2, 0, 0, kTop - 6144, 1}}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(decode_error({{0, 300, 0, 0, kTop - 300 * 6144, 1}}), IsOk());
  EXPECT_THAT(decode_error({{0, 301, 0, 0, kTop - 300 * 6144, 1}}), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(decode_error({{0, 300, 0, 0, kTop - 299 * 8192 - 6143, 4096}}), FailsWith(Code::kInvalidArgument)) << "with alignment only";
}

TEST(Metadata, of_a_failed_publish_has_no_placements) {
  const Status status = decode_error({{0, 1, 0, 0, 1, 1}}, Status(Code::kUnsupportedTensor, "tensor 0 is sparse"));
  EXPECT_THAT(status, FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(status.message(), HasSubstr("no place"));
}

TEST(Metadata, survives_any_change_of_its_bytes) {
  std::mt19937 random(20240611);
  const Bytes good = example();
  int accepted = 0;
  for (int round = 0; round < 20000; ++round) {
    Bytes bytes = good;
    for (int n = 0; n < 3; ++n) bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    const Result<Metadata> metadata = Metadata::decode(bytes);
    if (!metadata.is_ok()) {
      ASSERT_THAT(metadata.status(), FailsWith(Code::kInvalidArgument));
      continue;
    }
    ++accepted;
    std::uint64_t sum = 0;
    for (const Metadata::Run& run : metadata->runs()) sum += run.count * metadata->layouts()[run.layout].bytes();
    ASSERT_EQ(sum, metadata->bytes());
    ASSERT_LE(metadata->size(), kMostTensors);
    std::uint64_t end = 0;
    for (const Metadata::Placement& placement : metadata->placements()) {
      ASSERT_GE(placement.first, end);
      end = placement.first + placement.count;
      ASSERT_LE(end, metadata->size());
    }
  }
  EXPECT_GT(accepted, 0);  // e.g. other keys
}

TEST(Layout, counts_elements_and_bytes) {
  EXPECT_EQ((Layout{"float32", 4, {}}.elements()), 1u);
  EXPECT_EQ((Layout{"float32", 4, {}}.bytes()), 4u);
  EXPECT_EQ((Layout{"float32", 4, {2, 3}}.bytes()), 24u);
  EXPECT_EQ((Layout{"float32", 4, {2, 0}}.elements()), 0u);
  EXPECT_EQ((Layout{"float32", 4, {std::uint64_t{1} << 63, 4}}.bytes()), ~std::uint64_t{0});
}

}  // namespace
}  // namespace ray_hixl::test
