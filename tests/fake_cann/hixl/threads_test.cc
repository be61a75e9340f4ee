// Many threads at one engine, with faults among what they do.
#include <atomic>

#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

class Threads : public Engines {
 protected:
  // Runs `work` in so many threads, each with a context.
  static void run(int count, const std::function<void(int)>& work) {
    std::vector<std::thread> threads;
    for (int index = 0; index < count; ++index) {
      threads.emplace_back([&work, index] {
        (void)aclrtSetDevice(0);
        work(index);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

TEST_F(Threads, share_a_link) {
  open_and_connect();
  fake_hixl_reset_counters();
  constexpr std::size_t kPart = kSize / 4;
  run(4, [&](int index) {
    const std::size_t at = static_cast<std::size_t>(index) * kPart;
    const std::vector<TransferOpDesc> part = {{ours_.address() + at, theirs_.address + at, kPart}};
    for (int round = 0; round < 20; ++round) {
      EXPECT_EQ(transfer(part), kSuccess);
      TransferReq request = nullptr;
      EXPECT_EQ(engine_.TransferAsync(peer_.name().c_str(), kRead, part, {}, request), kSuccess);
      auto status = TransferStatus::WAITING;
      while (status == TransferStatus::WAITING) EXPECT_EQ(engine_.GetTransferStatus(request, status), kSuccess);
      EXPECT_EQ(status, TransferStatus::COMPLETED);
    }
  });
  EXPECT_TRUE(ours_.holds(kTheirs));
  EXPECT_EQ(fake_hixl_ops(), 160u);
}

TEST_F(Threads, come_and_go_among_failures) {
  open();
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "3,7,20,40:poll");
  fake_hixl_set("FAKE_HIXL_DROP_LINK_AT", "11,33");
  fake_hixl_set("FAKE_HIXL_RETRY_MS", "1");
  std::atomic<int> read_ones{0};
  run(4, [&](int) {
    for (int round = 0; round < 25; ++round) {
      (void)connect();
      if (read() == kSuccess) {
        ++read_ones;
      } else {
        (void)disconnect();
      }
      std::vector<hixl::TransferResult> results;
      (void)engine_.GetTransferStatus(hixl::GetTransferStatusArgs{}, results);
    }
  });
  EXPECT_GT(read_ones, 0);
}

}  // namespace
}  // namespace fake_hixl::test
