#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using Counters = Engines;

TEST_F(Counters, say_what_was_called_and_moved) {
  open();
  fake_hixl_reset_counters();
  EXPECT_EQ(fake_hixl_calls(nullptr), 0u);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(read(), kSuccess);
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
  std::vector<hixl::TransferResult> results;
  EXPECT_EQ(engine_.GetTransferStatus(hixl::GetTransferStatusArgs{}, results), kSuccess);
  EXPECT_EQ(fake_hixl_calls("Connect"), 1u);
  EXPECT_EQ(fake_hixl_calls("TransferSync"), 1u);
  EXPECT_EQ(fake_hixl_calls("TransferAsync"), 1u);
  EXPECT_GE(fake_hixl_calls("GetTransferStatus"), 1u);
  EXPECT_EQ(fake_hixl_calls("GetTransferStatusBatch"), 1u);
  EXPECT_EQ(fake_hixl_calls("Disconnect"), 0u);
  EXPECT_EQ(fake_hixl_ops(), 2u);
  EXPECT_EQ(fake_hixl_bytes(), 2 * kSize);
  fake_hixl_reset_counters();
  EXPECT_EQ(fake_hixl_bytes() + fake_hixl_ops() + fake_hixl_busy_ns() + fake_hixl_calls(nullptr), 0u);
}

TEST_F(Counters, say_what_lives) {
  EXPECT_EQ(fake_hixl_live_engines(), 0u);
  open_and_connect();
  EXPECT_EQ(fake_hixl_live_engines(), 1u);
  EXPECT_EQ(fake_hixl_links(), 1u);
  EXPECT_EQ(fake_hixl_inbound_links(), 0u);
  EXPECT_EQ(fake_hixl_regions(), 1u);
  EXPECT_EQ(peer_.inbound_links(), 1u);
  EXPECT_STREQ(fake_hixl_version(), "FAKE 9.2.0");
  engine_.Finalize();
  EXPECT_EQ(fake_hixl_live_engines() + fake_hixl_links() + fake_hixl_regions(), 0u);
}

}  // namespace
}  // namespace fake_hixl::test
