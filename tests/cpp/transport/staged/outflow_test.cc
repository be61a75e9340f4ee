#include "transport/staged/outflow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <thread>

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

  ~OutflowTest() override { devices->stop(); }

  [[nodiscard]] std::unique_ptr<stream::Outflow> open(std::vector<MemoryRange> payload) {
    const auto first = std::ranges::find(payload, MemoryKind::kDevice, &MemoryRange::kind)->device;
    auto next = [payload = std::move(payload), i = std::size_t{0}](std::uint64_t most) mutable -> std::optional<MemoryRange> {
      while (i < payload.size() && payload[i].length == 0) ++i;
      if (i == payload.size()) return std::nullopt;
      MemoryRange& rest = payload[i];
      const MemoryRange part{rest.address, std::min(most, rest.length), rest.kind, rest.device};
      rest.address += part.length;
      rest.length -= part.length;
      return part;
    };
    return open_outflow(devices, first, std::move(next), keep, [this] { ++told; });
  }
  // All of it, at most `step` bytes at a time.
  std::vector<std::byte> drain(stream::Outflow& outflow, std::uint64_t bytes, std::uint64_t step) {
    std::vector<std::byte> all;
    while (all.size() < bytes) {
      if (!eventually([&] { return !outflow.ready().empty() || !outflow.status().is_ok(); })) {
        ADD_FAILURE() << "no more than " << all.size() << " bytes come";
        return all;
      }
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
  EXPECT_LE(script.pinned, 4u);
  EXPECT_TRUE(test::is_pattern(drain(*outflow, memory.size(), 300'001), 5));
  EXPECT_LE(script.pinned, 8u) << "four of each device";
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

TEST_F(OutflowTest, says_where_memory_of_the_host_is_not_mapped) {
  std::vector<std::byte> memory(100);
  void* const gone = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const auto outflow = open({{memory.data(), 100, MemoryKind::kDevice, 0}, {static_cast<std::byte*>(gone), 4096}});
  EXPECT_TRUE(eventually([&] { return outflow->status().code() == Code::kInvalidRegion; }));
  ::munmap(gone, 4096);
}

// What it holds while its reader takes nothing is little where others want some, too.
TEST_F(OutflowTest, leaves_buffers_to_others) {
  std::vector<std::byte> memory(8 * kBuffer);
  std::vector<std::unique_ptr<stream::Outflow>> stopped;
  for (int i = 0; i < 4; ++i) stopped.push_back(open({{memory.data(), memory.size(), MemoryKind::kDevice, 0}}));
  const auto other = open({{memory.data(), memory.size(), MemoryKind::kDevice, 0}});
  EXPECT_EQ(drain(*other, memory.size(), kBuffer).size(), memory.size());
}

// As many as there are buffers take a byte now and then.
TEST_F(OutflowTest, a_reader_that_drips_gives_way_to_who_waits) {
  std::vector<std::byte> memory(kBuffer);
  test::fill_pattern(memory, 5);
  std::vector<std::unique_ptr<stream::Outflow>> slow;
  for (std::size_t i = 0; i < Staging::kBuffersEachWay; ++i) {
    slow.push_back(open({{memory.data(), memory.size(), MemoryKind::kDevice, 0}}));
    ASSERT_TRUE(eventually([&] { return !slow.back()->ready().empty(); }));
  }
  const auto other = open({{memory.data(), memory.size(), MemoryKind::kDevice, 0}});
  const auto drip = [&] {
    for (const auto& each : slow) each->sent(1);
  };
  drip();
  EXPECT_TRUE(other->ready().empty());
  std::this_thread::sleep_for(std::chrono::milliseconds(1050));
  drip();
  EXPECT_TRUE(test::is_pattern(drain(*other, memory.size(), kBuffer), 5));
  for (const auto& each : slow) {
    std::vector<std::byte> rest = drain(*each, memory.size() - 2, kBuffer);
    ASSERT_EQ(rest.size(), memory.size() - 2);
    EXPECT_TRUE(std::equal(rest.begin(), rest.end(), memory.begin() + 2));
  }
  EXPECT_LE(script.pinned, Staging::kBuffersEachWay);
}

TEST_F(OutflowTest, copies_so_many_ranges_a_part_and_no_more) {
  std::vector<std::byte> memory(2000);
  test::fill_pattern(memory, 5);
  std::vector<MemoryRange> payload;
  for (std::byte& byte : memory) payload.push_back({&byte, 1, MemoryKind::kDevice, 0});
  const auto outflow = open(payload);
  ASSERT_TRUE(eventually([&] { return !outflow->ready().empty(); }));
  EXPECT_EQ(outflow->ready().size(), 512u);
  EXPECT_TRUE(test::is_pattern(drain(*outflow, memory.size(), kBuffer), 5));
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
