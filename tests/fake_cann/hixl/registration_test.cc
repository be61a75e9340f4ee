#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using testing::HasSubstr;

class Registration : public Engines {
 protected:
  Registration() { open_here(); }
  hixl::Status add(std::uintptr_t address, std::size_t length, hixl::MemType kind = kMemDevice) {
    return engine_.RegisterMem({address, length, {}}, kind, handle_);
  }
};

TEST_F(Registration, of_the_same_again_is_the_same) {
  const MemHandle first = handle_;
  EXPECT_EQ(add(ours_.address(), kSize), kSuccess);
  EXPECT_EQ(handle_, first);
  EXPECT_EQ(fake_hixl_regions(), 1u);
  EXPECT_EQ(engine_.DeregisterMem(first), kSuccess);
  EXPECT_EQ(fake_hixl_regions(), 0u) << "one DeregisterMem ends it for all";
}

TEST_F(Registration, may_touch_but_not_overlap) {
  const Memory memory(kMemDevice, 3000, 1);
  EXPECT_EQ(add(memory.address() + 1000, 1000), kSuccess);
  EXPECT_EQ(add(memory.address(), 1000), kSuccess);
  EXPECT_EQ(add(memory.address() + 2000, 1000), kSuccess);
  EXPECT_EQ(add(memory.address() + 1999, 10), hixl::kParamInvalid);
  EXPECT_EQ(add(memory.address(), 3000), hixl::kParamInvalid);
  EXPECT_EQ(add(memory.address() + 1000, 999), hixl::kParamInvalid);
  EXPECT_THAT(recent_error(), HasSubstr("FAKE HIXL: RegisterMem of 999 bytes of device memory: it overlaps"));
}

TEST_F(Registration, refuses_nonsense) {
  EXPECT_EQ(add(0, 100), hixl::kParamInvalid);
  EXPECT_EQ(add(ours_.address(), ~std::size_t{0}), hixl::kParamInvalid);
  EXPECT_EQ(add(ours_.address(), 100, static_cast<hixl::MemType>(2)), hixl::kParamInvalid);
}

TEST_F(Registration, refuses_memory_that_is_not_what_it_is_said_to_be) {
  const Memory host(kMemHost, 1000, 1);
  EXPECT_EQ(add(host.address(), 1000), hixl::kParamInvalid);
  EXPECT_EQ(add(ours_.address() + 512, 100, kMemHost), hixl::kParamInvalid);
  Memory freed(kMemDevice, 1000, 1);
  const std::uintptr_t address = freed.address();
  freed.free();
  EXPECT_EQ(add(address, 1000), hixl::kParamInvalid);
  EXPECT_EQ(aclrtSetDevice(1), 0);
  const Memory elsewhere(kMemDevice, 1000, 1);
  EXPECT_EQ(add(elsewhere.address(), 1000), hixl::kParamInvalid);
  EXPECT_THAT(recent_error(), HasSubstr("another device than the engine"));
}

TEST_F(Registration, may_have_to_be_aligned) {
  fake_hixl_set("FAKE_HIXL_REQUIRE_ALIGNED", "1");
  const Memory small(kMemDevice, 1000, 1);
  const Memory huge(kMemDevice, std::size_t{4} << 20, 1);
  EXPECT_EQ(add(small.address(), 1000), hixl::kParamInvalid);
  EXPECT_EQ(add(huge.address() + 512, 1000), hixl::kParamInvalid);
  EXPECT_EQ(add(huge.address(), 1000), kSuccess);
}

TEST_F(Registration, of_nothing_fails_when_it_is_exchanged) {
  ASSERT_EQ(peer_.open(), kSuccess);
  const MemHandle whole = handle_;
  EXPECT_EQ(add(ours_.address(), 0), kSuccess);
  EXPECT_EQ(connect(), hixl::kParamInvalid);
  EXPECT_NE(handle_, whole);
  EXPECT_EQ(engine_.DeregisterMem(handle_), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(Registration, of_more_than_an_exchange_holds_fails_at_the_peer) {
  ASSERT_EQ(peer_.open(), kSuccess);
  const Memory memory(kMemDevice, 4096 * 16, 1);
  for (std::size_t index = 0; index < 4095; ++index) ASSERT_EQ(add(memory.address() + index * 16, 8), kSuccess);
  EXPECT_EQ(fake_hixl_regions(), 4096u);
  EXPECT_EQ(peer_.connect(name_), kSuccess);
  EXPECT_EQ(peer_.disconnect(name_), kSuccess);
  EXPECT_EQ(add(memory.address() + 4095 * 16, 8), kSuccess);
  EXPECT_EQ(peer_.connect(name_), hixl::kParamInvalid);
  EXPECT_EQ(connect(), kSuccess) << "of one's own there may be any number";
}

TEST_F(Registration, of_freed_memory_is_in_the_way) {
  ASSERT_EQ(peer_.open(), kSuccess);
  Memory freed(kMemDevice, 1000, 1);
  const std::uintptr_t address = freed.address();
  EXPECT_EQ(Engines::add(freed), kSuccess);
  freed.free();
  EXPECT_EQ(connect(), hixl::kFailed);
  EXPECT_THAT(recent_error(), HasSubstr("a region whose memory was freed"));
  const Memory again(kMemDevice, 1000, 1);
  ASSERT_EQ(again.address(), address);
  EXPECT_EQ(add(address, 1000), hixl::kParamInvalid);
  EXPECT_EQ(engine_.DeregisterMem(handle_), kSuccess);
  EXPECT_EQ(add(address, 1000), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(Registration, ends_only_without_outbound_links) {
  ASSERT_EQ(peer_.open(), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(engine_.DeregisterMem(handle_), hixl::kFailed);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(peer_.connect(name_), kSuccess);
  EXPECT_EQ(fake_hixl_inbound_links(), 1u);
  EXPECT_EQ(engine_.DeregisterMem(handle_), kSuccess) << "inbound links are not looked at";
  EXPECT_EQ(engine_.DeregisterMem(handle_), kSuccess) << "nor is an unknown handle minded";
  EXPECT_EQ(engine_.DeregisterMem(nullptr), hixl::kParamInvalid);
}

}  // namespace
}  // namespace fake_hixl::test
