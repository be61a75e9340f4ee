#include <algorithm>
#include <random>

#include "hixl/support/fixture.h"
#include "hixl/support/old_abi.h"

namespace fake_hixl::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::ElementsAre;

using Transfers = Engines;

TEST_F(Transfers, read_what_another_process_has) {
  open_and_connect();
  EXPECT_EQ(read(), kSuccess) << recent_error();
  EXPECT_TRUE(ours_.holds(kTheirs));
}

TEST_F(Transfers, write_to_another_process) {
  open_and_connect();
  EXPECT_EQ(transfer({whole()}, kWrite), kSuccess);
  EXPECT_TRUE(peer_.holds(theirs_, kOurs));
  EXPECT_TRUE(ours_.holds(kOurs));
}

TEST_F(Transfers, end_between_two_polls) {
  open_and_connect();
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_NE(request, nullptr);
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
  EXPECT_EQ(status_, TransferStatus::COMPLETED);
  EXPECT_TRUE(ours_.holds(kTheirs));
  EXPECT_EQ(poll(request), hixl::kParamInvalid);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  TransferReq next = nullptr;
  EXPECT_EQ(start(next), kSuccess);
  EXPECT_EQ(next, request) << "its address is used again";
  EXPECT_EQ(poll(nullptr), hixl::kFailed);
  EXPECT_EQ(status_, TransferStatus::FAILED);
}

TEST_F(Transfers, take_many_descriptors) {
  open_and_connect();
  constexpr std::size_t kPiece = kSize / 300;
  std::vector<TransferOpDesc> descriptors;
  for (std::size_t at = 0; at + kPiece <= kSize; at += kPiece) descriptors.push_back({ours_.address() + at, theirs_.address + at, kPiece});
  std::ranges::shuffle(descriptors, std::mt19937(7));
  fake_hixl_reset_counters();
  EXPECT_EQ(transfer(descriptors), kSuccess);
  EXPECT_EQ(ours_.bytes(), [] {
    auto expected = pattern(kSize, kTheirs);
    const auto before = pattern(kSize, kOurs);
    std::copy(before.begin() + static_cast<long>(kSize / kPiece * kPiece), before.end(),
              expected.begin() + static_cast<long>(kSize / kPiece * kPiece));
    return expected;
  }());
  EXPECT_EQ(fake_hixl_ops(), descriptors.size());
  EXPECT_EQ(fake_hixl_bytes(), descriptors.size() * kPiece);
  EXPECT_GT(fake_hixl_busy_ns(), 0u);
}

TEST_F(Transfers, span_regions_that_touch) {
  ASSERT_EQ(peer_.open(), kSuccess);
  theirs_ = peer_.add_region(kMemDevice, kSize, kTheirs);
  hixl::Status status = kSuccess;
  (void)initialize_somewhere(engine_, {}, status);
  EXPECT_EQ(engine_.RegisterMem({ours_.address(), 1000, {}}, kMemDevice, handle_), kSuccess);
  EXPECT_EQ(engine_.RegisterMem({ours_.address() + 1000, 2000, {}}, kMemDevice, handle_), kSuccess);
  EXPECT_EQ(engine_.RegisterMem({ours_.address() + 3001, 1000, {}}, kMemDevice, handle_), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(transfer({{ours_.address() + 500, theirs_.address + 500, 2500}}), kSuccess);
  const auto bytes = ours_.bytes();
  const auto expected = pattern(kSize, kTheirs);
  EXPECT_TRUE(std::equal(bytes.begin() + 500, bytes.begin() + 3000, expected.begin() + 500));
  EXPECT_EQ(transfer({{ours_.address() + 500, theirs_.address + 500, 2501}}), hixl::kParamInvalid);
}

TEST_F(Transfers, reach_host_memory) {
  ASSERT_EQ(peer_.open(), kSuccess);
  theirs_ = peer_.add_region(kMemHost, kSize, kTheirs);
  open_here();
  const Memory host(kMemHost, kSize, 3);
  EXPECT_EQ(add(host), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(transfer({{host.address(), theirs_.address, kSize}}), kSuccess);
  EXPECT_TRUE(host.holds(kTheirs));
  EXPECT_EQ(transfer({{ours_.address(), theirs_.address, kSize}}, kWrite), kSuccess);
  EXPECT_TRUE(peer_.holds(theirs_, kOurs));
}

TEST_F(Transfers, serve_callers_of_either_abi) {
  ASSERT_EQ(peer_.open(), kSuccess);
  theirs_ = peer_.add_region(kMemDevice, kSize, kTheirs);
  EXPECT_EQ(read_with_old_abi(peer_.name().c_str(), ours_.address(), theirs_.address, kSize), kSuccess);
  EXPECT_TRUE(ours_.holds(kTheirs));
}

TEST_F(Transfers, refuse_nonsense_and_leave_the_link_alone) {
  open_and_connect();
  EXPECT_EQ(transfer({}), hixl::kParamInvalid);
  EXPECT_EQ(transfer({{0, theirs_.address, 10}}), hixl::kParamInvalid);
  EXPECT_EQ(transfer({whole(), {ours_.address(), 0, 10}}), hixl::kParamInvalid);
  EXPECT_EQ(transfer({{ours_.address(), theirs_.address, 0}}), hixl::kParamInvalid);
  EXPECT_EQ(transfer({{ours_.address(), theirs_.address, kSize + 1}}), hixl::kParamInvalid);
  EXPECT_EQ(transfer({{ours_.address(), theirs_.address + 1, kSize}}), hixl::kParamInvalid);
  EXPECT_EQ(transfer({{ours_.address(), theirs_.address, ~std::size_t{0}}}), hixl::kParamInvalid);
  EXPECT_EQ(transfer({whole()}, kRead, 0), hixl::kParamInvalid);
  EXPECT_EQ(transfer({whole()}, static_cast<TransferOp>(2)), hixl::kParamInvalid);
  TransferReq request = nullptr;
  EXPECT_EQ(engine_.TransferAsync(peer_.name().c_str(), kRead, {}, {}, request), hixl::kParamInvalid);
  EXPECT_TRUE(ours_.holds(kOurs));
  EXPECT_EQ(read(), kSuccess);
}

TEST_F(Transfers, reach_a_peer_that_does_nothing) {
  open_and_connect();
  peer_.pause();
  EXPECT_EQ(read(), kSuccess);
  peer_.resume();
  EXPECT_TRUE(ours_.holds(kTheirs));
}

TEST_F(Transfers, that_wait_are_forgotten_by_disconnect) {
  open_and_connect();
  fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", "60000000");
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(poll(request), kSuccess);
  EXPECT_EQ(status_, TransferStatus::WAITING);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(poll(request), hixl::kParamInvalid);
  EXPECT_TRUE(ours_.holds(kOurs));
}

TEST_F(Transfers, of_the_synchronous_kind_hold_up_polls_and_disconnect) {
  open_and_connect();
  fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", "100000");
  const auto begin = steady_clock::now();
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  fake_hixl_reset_counters();
  std::thread other([&] {
    (void)aclrtSetDevice(0);
    EXPECT_EQ(read(), kSuccess);
  });
  while (fake_hixl_calls("TransferSync") == 0) std::this_thread::yield();
  while (fake_hixl_ops() == 0) std::this_thread::yield();  // the first one: the other is under way
  EXPECT_EQ(poll(request), kSuccess);
  EXPECT_EQ(disconnect(), kSuccess);
  other.join();
  EXPECT_GE(steady_clock::now() - begin, milliseconds(200)) << "one after the other, and then the poll";
}

TEST_F(Transfers, time_out_and_break_the_link) {
  open_and_connect();
  fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", "60000000");
  TransferReq before = nullptr;
  EXPECT_EQ(start(before), kSuccess);
  EXPECT_EQ(transfer({whole()}, kRead, 20), hixl::kTimeout);
  EXPECT_EQ(poll(before), kSuccess);
  EXPECT_EQ(status_, TransferStatus::FAILED) << "its stream was aborted";
  fake_hixl_reset_switches();
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_EQ(start(before), hixl::kFailed);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_TRUE(ours_.holds(kOurs));
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(read(), kSuccess);
}

TEST_F(Transfers, can_be_polled_all_together) {
  open_and_connect();
  fake_hixl_set("FAKE_HIXL_NEVER_AT", "3");
  std::vector<TransferReq> requests(3);
  int data[3] = {};
  for (std::size_t index = 0; index < 3; ++index) EXPECT_EQ(start(requests[index], &data[index]), kSuccess);
  std::vector<hixl::TransferResult> results(7);
  hixl::GetTransferStatusArgs args;
  args.max_query_count = 0;
  EXPECT_EQ(engine_.GetTransferStatus(args, results), kSuccess);
  EXPECT_TRUE(results.empty());
  args.max_query_count = 1;
  do {
    EXPECT_EQ(engine_.GetTransferStatus(args, results), kSuccess);
    ASSERT_EQ(results.size(), 1u);
  } while (results[0].status == TransferStatus::WAITING);
  EXPECT_EQ(results[0].req, requests[0]);
  EXPECT_EQ(results[0].user_data, &data[0]);
  args = {};
  do {
    EXPECT_EQ(engine_.GetTransferStatus(args, results), kSuccess);
  } while (results[0].status == TransferStatus::WAITING);
  ASSERT_EQ(results.size(), 2u) << "in the order in which they were started";
  EXPECT_EQ(results[0].req, requests[1]);
  EXPECT_EQ(results[0].status, TransferStatus::COMPLETED);
  EXPECT_EQ(results[1].req, requests[2]);
  EXPECT_EQ(results[1].status, TransferStatus::WAITING);
  args.skip_waiting = true;
  EXPECT_EQ(engine_.GetTransferStatus(args, results), kSuccess);
  EXPECT_TRUE(results.empty());
}

class Slots : public Engines {
 protected:
  static TestOptions channels(int count) {
    return {{"GlobalResourceConfig", R"({"comm_resource_config.max_active_channels":)" + std::to_string(count) + "}"}};
  }
};

TEST_F(Slots, are_shared_by_the_links_that_have_requests) {
  open_and_connect(channels(1));
  PeerProcess other;
  ASSERT_EQ(other.open(), kSuccess);
  const PeerMemory memory = other.add_region(kMemDevice, 100, 3);
  EXPECT_EQ(engine_.Connect(other.name().c_str()), kSuccess);
  const auto read_other = [&] { return engine_.TransferSync(other.name().c_str(), kRead, {{ours_.address(), memory.address, 100}}); };
  TransferReq first = nullptr;
  TransferReq second = nullptr;
  EXPECT_EQ(start(first), kSuccess);
  EXPECT_EQ(start(second), kSuccess) << "of the same link";
  EXPECT_EQ(read_other(), hixl::kResourceExhausted);
  EXPECT_EQ(poll_to_the_end(first), kSuccess);
  EXPECT_EQ(read_other(), hixl::kResourceExhausted);
  EXPECT_EQ(poll_to_the_end(second), kSuccess);
  EXPECT_EQ(read_other(), kSuccess) << "not latched";
  EXPECT_EQ(start(first), kSuccess);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(read_other(), kSuccess) << "a dropped request gives its slot back";
}

TEST_F(Slots, have_one_number_in_a_process) {
  open_here(channels(4));
  hixl::Hixl second;
  EXPECT_EQ(initialize(second, "127.0.0.1", channels(5)), hixl::kParamInvalid);
  EXPECT_EQ(initialize(second, "127.0.0.1"), hixl::kParamInvalid) << "128";
  EXPECT_EQ(initialize(second, "127.0.0.1", channels(4)), kSuccess);
}

}  // namespace
}  // namespace fake_hixl::test
