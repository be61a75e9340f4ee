#include "transport/staged/outflow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "support/eventually.h"
#include "support/pattern.h"
#include "support/scripted_staging.h"

namespace ray_hixl::transport::staged {
namespace {

using device::Staging;
using test::eventually;

class OutflowTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kBuffer = Staging::kBufferBytes;

  [[nodiscard]] std::unique_ptr<stream::Outflow> open(std::vector<MemoryRange> payload) {
    return open_outflow(devices, std::move(payload), keep, [this] { ++told; });
  }
  // All of it, at most `step` bytes at a time.
  std::vector<std::byte> drain(stream::Outflow& outflow, std::uint64_t bytes, std::uint64_t step) {
    std::vector<std::byte> all;
    while (all.size() < bytes) {
      if (!eventually([&] { return !outflow.ready().empty() || !outflow.status().is_ok(); })) return all;
      if (!outflow.status().is_ok()) return all;
      const auto some = outflow.ready().first(std::min<std::size_t>(outflow.ready().size(), step));
      all.insert(all.end(), some.begin(), some.end());
      outflow.sent(some.size());
    }
    return all;
  }

  test::StagingScript script;
  const std::shared_ptr<device::Devices> devices = std::make_shared<test::ScriptedDevices>(2, script);
  std::shared_ptr<const void> keep = std::make_shared<int>();
  std::atomic<int> told = 0;
};

// Device memory of both, host memory between, before and behind, in pieces that fill no buffer and more than one.
TEST_F(OutflowTest, gives_every_byte_in_order_a_few_buffers_ahead) {
  std::vector<std::byte> memory(9 * kBuffer + 77);
  test::fill_pattern(memory, 5);
  std::vector<MemoryRange> payload;
  std::uint64_t at = 0;
  const auto add = [&](std::uint64_t length, MemoryKind kind, std::int32_t device) {
    payload.push_back({memory.data() + at, length, kind, device});
    at += length;
  };
  add(7, MemoryKind::kHost, 0);
  add(3 * kBuffer + 1, MemoryKind::kDevice, 0);
  add(100, MemoryKind::kDevice, 1);
  add(kBuffer, MemoryKind::kHost, 0);
  add(kBuffer, MemoryKind::kDevice, 1);
  add(100, MemoryKind::kDevice, 0);
  add(memory.size() - at, MemoryKind::kHost, 0);
  const auto outflow = open(payload);
  EXPECT_LE(script.allocated, 4u);
  EXPECT_TRUE(test::is_pattern(drain(*outflow, memory.size(), 300'001), 5));
  EXPECT_LE(script.allocated, 8u) << "four of each device";
  EXPECT_GT(told, 0);
  EXPECT_TRUE(outflow->status().is_ok());
  EXPECT_TRUE(outflow->ready().empty());
}

TEST_F(OutflowTest, fails_with_what_the_device_says) {
  std::vector<std::byte> memory(100);
  script.fails = true;
  const auto outflow = open({{memory.data(), memory.size(), MemoryKind::kDevice, 0}});
  EXPECT_TRUE(eventually([&] { return !outflow->status().is_ok() || !outflow->ready().empty(); }));
  EXPECT_THAT(outflow->status().message(), testing::HasSubstr("the device failed"));
  EXPECT_GT(told, 0);
}

TEST_F(OutflowTest, fails_where_the_device_was_closed) {
  devices->stop();
  std::vector<std::byte> memory(100);
  EXPECT_EQ(open({{memory.data(), memory.size(), MemoryKind::kDevice, 0}})->status().code(), Code::kClosed);
  EXPECT_EQ(open({{memory.data(), memory.size(), MemoryKind::kDevice, 7}})->status().code(), Code::kClosed);
}

TEST_F(OutflowTest, keeps_the_memory_until_nothing_copies_from_it) {
  std::vector<std::byte> memory(3 * kBuffer);
  test::Event go_on;
  script.waits = &go_on;
  auto outflow = open({{memory.data(), memory.size(), MemoryKind::kDevice, 0}});
  const std::weak_ptr<const void> kept = std::exchange(keep, nullptr);
  ASSERT_TRUE(eventually([&] { return script.began == 1; }));
  outflow.reset();
  EXPECT_FALSE(kept.expired());
  go_on.set();
  EXPECT_TRUE(eventually([&] { return kept.expired(); }));
  EXPECT_EQ(script.began, 1) << "the rest is not wanted any more";
}

}  // namespace
}  // namespace ray_hixl::transport::staged
