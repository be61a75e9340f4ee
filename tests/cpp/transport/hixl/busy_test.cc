// What publishes and fetches without a framework wait for: the default stream of the device, for as long as they may.
#include <dlfcn.h>

#include <atomic>
#include <thread>

#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

constexpr std::uint64_t kBytes = 4096;
constexpr std::uint64_t kSlab = std::uint64_t{2} << 20;

Options soon_tired() {
  Options options;
  options.publish_timeout_s = 1;
  options.transfer_timeout_s = 5;
  options.slab_bytes = options.slab_cap_bytes = kSlab;
  return options;
}

class HixlBusy : public HixlProcesses {
 protected:
  HixlBusy() : HixlProcesses(soon_tired()) {
    if (is_test_cann_real()) return;
    runtime = ::dlopen(runtime_on(kPeerDevice).path.c_str(), RTLD_NOW | RTLD_NOLOAD);
    (void)runtime_on(kPeerDevice).synchronize_device(-1);
  }
  void SetUp() override {
    if (runtime == nullptr) GTEST_SKIP() << "only the FAKE runtime has kernels of a given length";
  }
  ~HixlBusy() override {
    if (runtime != nullptr) (void)runtime_on(kPeerDevice).synchronize_device(-1);
  }

  template <class Function>
  Function* entry(const char* name) const {
    return reinterpret_cast<Function*>(::dlsym(runtime, name));
  }
  // On the default stream, or on another one.
  void be_busy(std::chrono::milliseconds time, bool elsewhere = false) const {
    (void)runtime_on(kPeerDevice);
    void* stream = nullptr;
    ASSERT_TRUE(!elsewhere || entry<int(void**)>("aclrtCreateStream")(&stream) == 0);
    ASSERT_EQ(entry<int(void*, const char*, long)>("fake_cann_launch")(stream, nullptr, time.count()), 0);
  }
  [[nodiscard]] Bytes publish_here(const MemoryRange& range) const {
    const std::vector<Layout> layouts = {uint8_layout(range.length)};
    const std::vector<SourceTensor> sources = {{range, 0}};
    return consumer->objects().publish(layouts, sources, nullptr);
  }
  [[nodiscard]] Region slab(std::uint64_t seed) const { return make_region(**consumer, kBytes, seed, SourceMemory::kSlab, kPeerDevice); }

  void* runtime = nullptr;
};

TEST_F(HixlBusy, a_publish_waits_for_the_default_stream_until_its_time_is_over) {
  const Region region = slab(1);
  be_busy(std::chrono::seconds(3));
  const Status error = Metadata::decode(publish_here(region.range())).value().error();
  EXPECT_THAT(error, FailsWith(Code::kDeviceBusy));
  EXPECT_THAT(error.message(), testing::ContainsRegex("^npu:1 was busy for [0-9.]+ s with work that was queued before the publish"));
}

TEST_F(HixlBusy, a_publish_waits_for_no_other_stream) {
  const Region region = slab(1);
  be_busy(std::chrono::seconds(3), true);
  EXPECT_THAT(Metadata::decode(publish_here(region.range())).value().error(), IsOk());
}

TEST_F(HixlBusy, what_is_packed_was_written_before) {
  const auto& acl = runtime_on(kPeerDevice);
  const Region written = slab(7);
  void* memory = nullptr;
  ASSERT_EQ(acl.malloc(&memory, kBytes, transport::hixl::kAclHugeOnly), 0);
  be_busy(std::chrono::milliseconds(100));
  ASSERT_EQ(acl.memcpy_async(memory, kBytes, written.range().address, kBytes, transport::hixl::kAclDeviceToDevice, nullptr), 0);
  const Bytes metadata = publish_here({static_cast<std::byte*>(memory), kBytes, MemoryKind::kDevice, kPeerDevice});
  expect_fetched(metadata, {kBytes}, 7);
  EXPECT_EQ(acl.free(memory), 0);
}

TEST_F(HixlBusy, memory_is_used_again_on_a_device_that_always_has_work) {
  (void)make_region(**consumer, kSlab, 1, SourceMemory::kSlab, kPeerDevice);
  std::atomic<bool> is_over{false};
  std::thread user([&] {
    while (!is_over) {
      be_busy(std::chrono::milliseconds(60));
      std::this_thread::sleep_for(std::chrono::milliseconds(40));
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto begin = std::chrono::steady_clock::now();
  const Result<Region> again = (*consumer)->allocate(kSlab, MemoryKind::kDevice, kPeerDevice);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, scaled(std::chrono::seconds(2)));
  is_over = true;
  user.join();
  EXPECT_THAT(again.status(), IsOk());
}

TEST_F(HixlBusy, a_fetch_waits_for_its_targets_until_its_time_is_over) {
  PeerProcess owner;
  const Bytes metadata = owner.publish({kBytes}, 5, SourceMemory::kSlab);
  const Region target = slab(1);
  const std::vector<MemoryRange> targets = {target.range()};
  be_busy(std::chrono::seconds(3));
  const Fetch late = consumer->objects().fetch(metadata, targets, nullptr, std::chrono::milliseconds(300));
  EXPECT_TRUE(late.transfer().done());
  EXPECT_THAT(late.transfer().result(), FailsWith(Code::kDeviceBusy));
  EXPECT_TRUE(holds_pattern(target.range(), 1));
  const Fetch patient = consumer->objects().fetch(metadata, targets, nullptr, kRead);
  EXPECT_TRUE(patient.transfer().wait());
  EXPECT_THAT(patient.transfer().result(), IsOk());
  EXPECT_TRUE(holds_pattern(target.range(), 5));
}

}  // namespace
}  // namespace ray_hixl::test
