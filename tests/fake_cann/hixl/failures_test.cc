// What goes wrong on its own: peers that die, memory that goes.
#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

using Failures = Engines;

TEST_F(Failures, of_a_dead_process_show_after_the_retries) {
  open_and_connect();
  peer_.kill();
  fake_hixl_set("FAKE_HIXL_RETRY_MS", "30");
  const auto begin = steady_clock::now();
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess) << "nobody knows yet";
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  EXPECT_GE(steady_clock::now() - begin, milliseconds(30));
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_EQ(start(request), hixl::kFailed);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(connect(), hixl::kFailed);
}

TEST_F(Failures, of_clients_are_noticed) {
  open();
  EXPECT_EQ(peer_.connect(name_), kSuccess);
  EXPECT_EQ(fake_hixl_inbound_links(), 1u);
  peer_.kill();
  while (fake_hixl_inbound_links() > 0) std::this_thread::yield();
}

TEST_F(Failures, of_a_finalized_peer_may_be_timeouts) {
  open_and_connect();
  peer_.finalize();
  fake_hixl_set("FAKE_HIXL_RETRY_MS", "60000");
  EXPECT_EQ(transfer({whole()}, kRead, 20), hixl::kTimeout);
  EXPECT_EQ(disconnect(), kSuccess);
}

TEST_F(Failures, come_where_the_owner_deregistered) {
  open_and_connect();
  EXPECT_EQ(peer_.deregister_memory(theirs_), kSuccess);
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_TRUE(ours_.holds(kOurs));
  EXPECT_EQ(read(), hixl::kFailed) << "latched";
  EXPECT_EQ(peer_.register_memory(theirs_), kSuccess);
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(read(), kSuccess);
}

TEST_F(Failures, come_where_the_owner_freed) {
  open_and_connect();
  peer_.free(theirs_);
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_TRUE(ours_.holds(kOurs));
}

TEST_F(Failures, come_where_we_freed) {
  open_and_connect();
  const TransferOpDesc descriptor = whole();
  ours_.free();
  EXPECT_EQ(transfer({descriptor}), hixl::kFailed);
}

TEST_F(Failures, of_freed_host_memory_are_seen_as_well) {
  ASSERT_EQ(peer_.open(), kSuccess);
  theirs_ = peer_.add_region(kMemHost, kSize, kTheirs);
  open_here();
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(read(), kSuccess);
  peer_.free(theirs_);
  EXPECT_EQ(read(), hixl::kFailed);
}

TEST_F(Failures, of_one_request_are_those_of_all_that_wait) {
  open_and_connect();
  fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", "20000");
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "2:poll");
  std::vector<TransferReq> requests(3);
  for (TransferReq& request : requests) EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(poll_to_the_end(requests[2]), kSuccess);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  EXPECT_EQ(poll(requests[1]), kSuccess);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  EXPECT_EQ(poll(requests[0]), kSuccess);
  EXPECT_EQ(status_, TransferStatus::COMPLETED) << "it was done before";
  EXPECT_EQ(start(requests[0]), hixl::kFailed);
}

}  // namespace
}  // namespace fake_hixl::test
