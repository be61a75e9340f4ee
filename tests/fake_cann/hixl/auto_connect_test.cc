#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

class AutoConnect : public Engines {
 protected:
  AutoConnect() { open({{"AutoConnect", "1"}}); }
};

TEST_F(AutoConnect, connects_when_it_is_needed) {
  EXPECT_EQ(read(), kSuccess);
  EXPECT_TRUE(ours_.holds(kTheirs));
  EXPECT_EQ(connect(), hixl::kAlreadyConnected);
  EXPECT_EQ(disconnect(), kSuccess);
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
}

TEST_F(AutoConnect, drops_the_link_at_any_error_and_comes_again) {
  EXPECT_EQ(read(), kSuccess);
  fake_hixl_set("FAKE_HIXL_NEVER_AT", "1");
  TransferReq waiting = nullptr;
  EXPECT_EQ(start(waiting), kSuccess);
  const PeerMemory late = peer_.add_region(kMemDevice, kSize, 4);
  const std::vector<TransferOpDesc> of_late = {{ours_.address(), late.address, kSize}};
  EXPECT_EQ(transfer(of_late), hixl::kParamInvalid);
  EXPECT_EQ(disconnect(), hixl::kNotConnected);
  EXPECT_EQ(poll(waiting), hixl::kParamInvalid) << "stranded";
  EXPECT_EQ(transfer(of_late), kSuccess);
  EXPECT_TRUE(ours_.holds(4));
}

TEST_F(AutoConnect, drops_the_link_at_a_failed_poll) {
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:poll");
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  EXPECT_EQ(disconnect(), hixl::kNotConnected);
  EXPECT_EQ(read(), kSuccess);
}

TEST_F(AutoConnect, reports_all_requests_of_a_dropped_link_as_failed) {
  fake_hixl_set("FAKE_HIXL_NEVER_AT", "2");
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:error:507018");
  std::vector<TransferReq> requests(2);
  for (TransferReq& request : requests) EXPECT_EQ(start(request), kSuccess);
  std::vector<hixl::TransferResult> results;
  do {
    EXPECT_EQ(engine_.GetTransferStatus(hixl::GetTransferStatusArgs{}, results), kSuccess);
    ASSERT_EQ(results.size(), 2u);
  } while (results[0].status == TransferStatus::WAITING);
  EXPECT_EQ(results[0].status, TransferStatus::FAILED);
  EXPECT_EQ(results[1].status, TransferStatus::FAILED);
  EXPECT_EQ(fake_hixl_links(), 0u);
}

TEST_F(AutoConnect, fails_as_connect_does) {
  peer_.finalize();
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_EQ(fake_hixl_links(), 0u);
}

}  // namespace
}  // namespace fake_hixl::test
