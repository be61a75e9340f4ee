// Memory of the device that requests take.
#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using testing::HasSubstr;

constexpr std::size_t kPage = std::size_t{2} << 20;

class RequestMemory : public Engines {
 protected:
  RequestMemory() {
    open_and_connect();
    before_ = free_bytes();
  }

  static std::size_t free_bytes() {
    std::size_t free = 0;
    std::size_t total = 0;
    (void)aclrtGetMemInfo(0, &free, &total);
    return free;
  }
  [[nodiscard]] std::size_t pages() const { return (before_ - free_bytes()) / kPage; }

  std::size_t before_ = 0;
};

TEST_F(RequestMemory, is_a_page_for_each_until_its_end_is_polled) {
  std::vector<TransferReq> requests(5);
  for (TransferReq& request : requests) EXPECT_EQ(start(request), kSuccess);
  while (fake_hixl_ops() < requests.size()) std::this_thread::yield();
  EXPECT_EQ(pages(), 5u) << "though all have ended";
  for (std::size_t left = requests.size(); left > 0; --left) {
    EXPECT_EQ(pages(), left);
    EXPECT_EQ(poll_to_the_end(requests[left - 1]), kSuccess);
  }
  EXPECT_EQ(free_bytes(), before_);
}

TEST_F(RequestMemory, is_given_back_by_disconnect_and_by_synchronous_transfers) {
  EXPECT_EQ(read(), kSuccess);
  EXPECT_EQ(free_bytes(), before_);
  fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", "60000000");
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(transfer({whole()}, kRead, 10), hixl::kTimeout);
  EXPECT_EQ(pages(), 1u);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(free_bytes(), before_);
}

TEST_F(RequestMemory, that_is_not_there_leaves_the_link_as_it_is) {
  TransferReq first = nullptr;
  EXPECT_EQ(start(first), kSuccess);
  void* rest = nullptr;
  ASSERT_EQ(aclrtMalloc(&rest, free_bytes() / kPage * kPage - kPage, fake_cann::kHugeOnly), 0);
  TransferReq request = nullptr;
  hixl::Status status = kSuccess;
  int started = 0;
  while ((status = start(request)) == kSuccess) ++started;
  EXPECT_EQ(status, 207018u);
  EXPECT_THAT(recent_error(), HasSubstr("no memory for the descriptors"));
  EXPECT_LE(started, 2);
  EXPECT_EQ(transfer({whole()}), 207018u);
  EXPECT_EQ(poll_to_the_end(first), kSuccess);
  EXPECT_EQ(status_, TransferStatus::COMPLETED);
  EXPECT_EQ(start(request), kSuccess) << "neither latched nor without a slot";
  EXPECT_EQ(aclrtFree(rest), 0);
  EXPECT_EQ(read(), kSuccess);
}

TEST_F(RequestMemory, that_is_not_there_takes_no_slot) {
  void* rest = nullptr;
  ASSERT_EQ(aclrtMalloc(&rest, free_bytes() / kPage * kPage, fake_cann::kHugeOnly), 0);
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), 207018u);
  EXPECT_EQ(fake_hixl_taken_slots(), 0u);
  EXPECT_EQ(aclrtFree(rest), 0);
}

}  // namespace
}  // namespace fake_hixl::test
