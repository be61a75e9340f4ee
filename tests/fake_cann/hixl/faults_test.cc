// Each switch that makes something go wrong, once.
#include <algorithm>

#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

class Faults : public Engines {
 protected:
  Faults() { open_and_connect(); }
  TransferReq started() {
    TransferReq request = nullptr;
    EXPECT_EQ(start(request), kSuccess);
    return request;
  }
  // Whether the first half of ours is that of one seed, and the rest still is as it was.
  [[nodiscard]] bool holds_half(unsigned seed) const {
    auto expected = pattern(kSize, seed);
    const auto before = pattern(kSize, kOurs);
    std::copy(before.begin() + kSize / 2, before.end(), expected.begin() + kSize / 2);
    return ours_.bytes() == expected;
  }
  [[nodiscard]] bool arrive() const {
    const auto end = steady_clock::now() + std::chrono::seconds(5);
    while (!ours_.holds(kTheirs) && steady_clock::now() < end) std::this_thread::yield();
    return ours_.holds(kTheirs);
  }
};

TEST_F(Faults, delay_transfers) {
  fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", "20000");
  const auto begin = steady_clock::now();
  const TransferReq request = started();
  EXPECT_EQ(poll(request), kSuccess);
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
  EXPECT_GE(steady_clock::now() - begin, milliseconds(20));
}

TEST_F(Faults, refuse_connects) {
  EXPECT_EQ(disconnect(), kSuccess);
  fake_hixl_set("FAKE_HIXL_REFUSE_CONNECT", "2");
  EXPECT_EQ(connect(), hixl::kFailed);
  EXPECT_EQ(connect(), hixl::kFailed);
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(Faults, fail_calls) {
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "2,4:call:507018");
  TransferReq request = nullptr;
  EXPECT_EQ(read(), kSuccess);
  EXPECT_EQ(read(), 507018u);
  EXPECT_EQ(start(request), kSuccess) << "a code of the runtime does not break the link, as HIXL sees it";
  EXPECT_EQ(start(request), 507018u);
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:call:103900");
  EXPECT_EQ(read(), hixl::kParamInvalid);
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:call:103901");
  EXPECT_EQ(read(), hixl::kTimeout);
  EXPECT_EQ(read(), hixl::kFailed) << "this does";
}

TEST_F(Faults, fail_polls) {
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:error:507018");
  EXPECT_EQ(poll_to_the_end(started()), 507018u);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  EXPECT_TRUE(ours_.holds(kOurs));
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "*:poll");
  EXPECT_EQ(poll_to_the_end(started()), kSuccess);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  EXPECT_EQ(read(), hixl::kFailed);
}

TEST_F(Faults, exhaust_the_slots) {
  fake_hixl_set("FAKE_HIXL_EXHAUST", "2");
  TransferReq request = nullptr;
  EXPECT_EQ(read(), hixl::kResourceExhausted);
  EXPECT_EQ(start(request), hixl::kResourceExhausted);
  EXPECT_EQ(read(), kSuccess);
}

TEST_F(Faults, drop_links) {
  fake_hixl_set("FAKE_HIXL_DROP_LINK_AT", "2");
  fake_hixl_set("FAKE_HIXL_RETRY_MS", "1");
  EXPECT_EQ(read(), kSuccess);
  EXPECT_EQ(peer_.inbound_links(), 1u);
  EXPECT_EQ(read(), hixl::kFailed);
  while (peer_.inbound_links() > 0) std::this_thread::yield();
  EXPECT_EQ(connect(), hixl::kAlreadyConnected);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(read(), kSuccess);
}

TEST_F(Faults, garble_what_arrives) {
  fake_hixl_set("FAKE_HIXL_GARBLE_AT", "1,2");
  EXPECT_EQ(read(), kSuccess);
  auto bytes = ours_.bytes();
  EXPECT_NE(bytes, pattern(kSize, kTheirs));
  bytes[kSize / 2] = static_cast<unsigned char>(~bytes[kSize / 2]);
  EXPECT_EQ(bytes, pattern(kSize, kTheirs));
  ours_.fill(kOurs);
  EXPECT_EQ(transfer({whole()}, kWrite), kSuccess);
  EXPECT_FALSE(peer_.holds(theirs_, kOurs));
  EXPECT_EQ(transfer({whole()}, kWrite), kSuccess);
  EXPECT_TRUE(peer_.holds(theirs_, kOurs));
}

TEST_F(Faults, stop_half_way) {
  fake_hixl_set("FAKE_HIXL_SHORT_AT", "1");
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_TRUE(holds_half(kTheirs));
  EXPECT_EQ(read(), hixl::kFailed);
}

TEST_F(Faults, never_end) {
  fake_hixl_set("FAKE_HIXL_NEVER_AT", "2");
  const TransferReq before = started();
  const TransferReq never = started();
  const TransferReq behind = started();
  EXPECT_EQ(poll_to_the_end(before), kSuccess);
  for (const TransferReq request : {never, behind, never, behind}) {
    EXPECT_EQ(poll(request), kSuccess);
    EXPECT_EQ(status_, TransferStatus::WAITING);
  }
  EXPECT_EQ(transfer({whole()}, kRead, 10), hixl::kTimeout);
  EXPECT_EQ(poll(never), kSuccess);
  EXPECT_EQ(status_, TransferStatus::FAILED) << "the time-out aborted the stream";
}

TEST_F(Faults, let_bytes_arrive_after_a_failure) {
  fake_hixl_set("FAKE_HIXL_LATE_MS", "5");
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:poll");
  EXPECT_EQ(poll_to_the_end(started()), kSuccess);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  EXPECT_TRUE(arrive());
}

TEST_F(Faults, let_bytes_arrive_while_a_request_waits) {
  fake_hixl_set("FAKE_HIXL_LATE_MS", "5");
  fake_hixl_set("FAKE_HIXL_NEVER_AT", "1");
  const TransferReq request = started();
  EXPECT_TRUE(arrive());
  EXPECT_EQ(poll(request), kSuccess);
  EXPECT_EQ(status_, TransferStatus::WAITING);
}

TEST_F(Faults, let_bytes_arrive_before_disconnect_returns) {
  fake_hixl_set("FAKE_HIXL_LATE_MS", "60000");
  fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", "60000000");
  EXPECT_EQ(transfer({whole()}, kRead, 10), hixl::kTimeout);
  EXPECT_TRUE(ours_.holds(kOurs));
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_TRUE(ours_.holds(kTheirs));
}

TEST_F(Faults, let_bytes_arrive_even_after_disconnect) {
  fake_hixl_set("FAKE_HIXL_LATE_MS", "50");
  fake_hixl_set("FAKE_HIXL_LATE_PAST_DISCONNECT", "1");
  fake_hixl_set("FAKE_HIXL_NEVER_AT", "1");
  (void)started();
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_TRUE(ours_.holds(kOurs));
  EXPECT_TRUE(arrive());
}

TEST_F(Faults, end_the_process_in_the_middle) {
  peer_.set("FAKE_HIXL_DIE_AT", "1");
  const PeerMemory source = peer_.add_region(kMemDevice, kSize, 5);
  EXPECT_EQ(peer_.connect(name_), kSuccess);
  peer_.begin_transfer(kWrite, source, name_, ours_.address());
  EXPECT_EQ(peer_.wait(), 88);
  EXPECT_TRUE(holds_half(5));
}

TEST_F(Faults, can_be_asked_for_in_the_environment) {
  PeerProcess other(0, {"FAKE_HIXL_EXHAUST=1"});
  ASSERT_EQ(other.open(), kSuccess);
  const PeerMemory memory = other.add_region(kMemDevice, kSize, 3);
  EXPECT_EQ(other.connect(name_), kSuccess);
  EXPECT_EQ(other.transfer(kRead, memory, name_, ours_.address()), hixl::kResourceExhausted);
  EXPECT_EQ(other.transfer(kRead, memory, name_, ours_.address()), kSuccess);
}

TEST_F(Faults, are_set_back) {
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "*:call:103900");
  EXPECT_EQ(read(), hixl::kParamInvalid);
  fake_hixl_set("FAKE_HIXL_FAIL_AT", nullptr);
  EXPECT_EQ(read(), kSuccess);
}

}  // namespace
}  // namespace fake_hixl::test
