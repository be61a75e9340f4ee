#include <atomic>

#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

using Connecting = Engines;

TEST_F(Connecting, is_for_once) {
  open();
  EXPECT_EQ(disconnect(), hixl::kNotConnected);
  EXPECT_EQ(read(), hixl::kNotConnected);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(connect(), hixl::kAlreadyConnected);
  EXPECT_EQ(fake_hixl_links(), 1u);
  EXPECT_EQ(peer_.inbound_links(), 1u);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(disconnect(), hixl::kNotConnected);
  EXPECT_EQ(fake_hixl_links(), 0u);
}

TEST_F(Connecting, refuses_bad_names_and_timeouts) {
  open();
  EXPECT_EQ(engine_.Connect(name_.c_str(), 100), hixl::kParamInvalid) << "itself";
  for (const char* name : {"", "127.0.0.1", "localhost:20000", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:0"}) {
    EXPECT_EQ(engine_.Connect(name, 100), hixl::kParamInvalid) << name;
  }
  EXPECT_EQ(connect(0), hixl::kParamInvalid);
  EXPECT_EQ(connect(-1), hixl::kParamInvalid);
}

TEST_F(Connecting, fails_where_nobody_listens) {
  open();
  peer_.finalize();
  EXPECT_EQ(connect(), hixl::kFailed);
  EXPECT_THAT(recent_error(), HasSubstr("FAKE HIXL: Connect to " + peer_.name()));
  EXPECT_EQ(fake_hixl_links(), 0u);
  EXPECT_EQ(disconnect(), hixl::kNotConnected);
}

TEST_F(Connecting, takes_no_longer_than_its_timeout) {
  open();
  peer_.pause();
  const auto start = steady_clock::now();
  EXPECT_EQ(connect(50), hixl::kTimeout);
  EXPECT_GE(steady_clock::now() - start, milliseconds(50));
  peer_.resume();
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(Connecting, can_be_delayed_for_all_or_one) {
  open();
  fake_hixl_set("FAKE_HIXL_CONNECT_DELAY_MS", "20");
  const auto start = steady_clock::now();
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_GE(steady_clock::now() - start, milliseconds(20));
  EXPECT_EQ(disconnect(), kSuccess);
  fake_hixl_set("FAKE_HIXL_CONNECT_DELAY_MS", (peer_.name() + "=60000,127.0.0.1:1=5").c_str());
  EXPECT_EQ(connect(20), hixl::kTimeout);
  fake_hixl_set("FAKE_HIXL_CONNECT_DELAY_MS", "127.0.0.1:1=60000");
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(Connecting, has_its_timeout_for_each_stage) {
  open();
  fake_hixl_set("FAKE_HIXL_STAGE_DELAY_MS", "60");
  const auto start = steady_clock::now();
  EXPECT_EQ(connect(100), kSuccess) << recent_error();
  EXPECT_GE(steady_clock::now() - start, milliseconds(300));
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(connect(50), hixl::kTimeout);
}

TEST_F(Connecting, from_two_threads_succeeds_in_one) {
  open();
  std::atomic<int> connected{0};
  std::atomic<int> already{0};
  const auto one = [&] {
    (void)aclrtSetDevice(0);
    const hixl::Status status = connect();
    connected += status == kSuccess ? 1 : 0;
    already += status == hixl::kAlreadyConnected ? 1 : 0;
  };
  std::thread first(one);
  std::thread second(one);
  first.join();
  second.join();
  EXPECT_EQ(connected, 1);
  EXPECT_EQ(already, 1);
}

TEST_F(Connecting, goes_one_way) {
  open_and_connect();
  const PeerMemory memory = peer_.allocate(kMemDevice, 100, 5);
  EXPECT_EQ(peer_.transfer(kRead, memory, name_, ours_.address()), hixl::kNotConnected);
  EXPECT_EQ(peer_.register_memory(memory), kSuccess);
  EXPECT_EQ(peer_.connect(name_), kSuccess) << "both links can be";
  EXPECT_EQ(peer_.transfer(kWrite, memory, name_, ours_.address()), kSuccess);
  EXPECT_EQ(read(), kSuccess);
}

TEST_F(Connecting, shows_what_was_registered_then_and_nothing_later) {
  open_and_connect();
  const Memory late(kMemDevice, kSize, 3);
  EXPECT_EQ(add(late), kSuccess);
  const PeerMemory late_there = peer_.add_region(kMemDevice, kSize, 4);
  EXPECT_EQ(transfer({{late.address(), theirs_.address, kSize}}), hixl::kParamInvalid);
  EXPECT_EQ(transfer({{ours_.address(), late_there.address, kSize}}), hixl::kParamInvalid);
  EXPECT_EQ(read(), kSuccess) << "the link is as good as before";
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(transfer({{late.address(), late_there.address, kSize}}), kSuccess);
  EXPECT_TRUE(late.holds(4));
}

TEST_F(Connecting, says_that_it_is_already_so_of_a_dead_link) {
  open_and_connect();
  const std::string name = peer_.name();
  peer_.finalize();
  EXPECT_EQ(connect(), hixl::kAlreadyConnected);
  EXPECT_EQ(peer_.open({}, name), kSuccess) << "at its old address";
  EXPECT_EQ(connect(), hixl::kAlreadyConnected);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(Connecting, needs_no_port_of_its_own) {
  ASSERT_EQ(peer_.open(), kSuccess);
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(Connecting, works_over_ip6) {
  std::string name;
  for (hixl::Status status = hixl::kFailed; status != kSuccess;) {
    name = "[::1]" + some_name().substr(9);
    status = peer_.open({}, name);
  }
  EXPECT_EQ(initialize(engine_, "::1"), kSuccess);
  EXPECT_EQ(connect(), kSuccess) << name;
}

TEST_F(Connecting, needs_an_address_that_is_free) {
  open();
  hixl::Hixl second;
  EXPECT_EQ(initialize(second, name_), hixl::kFailed);
  EXPECT_EQ(initialize(second, peer_.name()), hixl::kFailed) << "of another process";
  EXPECT_EQ(initialize(second, "192.0.2.1:20000"), hixl::kFailed) << "not of this machine";
  for (const char* name : {"", "here", "localhost:20000", "[127.0.0.1]:20000", "127.0.0.1:99999"}) {
    EXPECT_EQ(initialize(second, name), hixl::kParamInvalid) << name;
  }
  EXPECT_EQ(fake_hixl_live_engines(), 1u);
}

TEST_F(Connecting, and_all_else_needs_an_engine) {
  TransferReq request = nullptr;
  const auto expect_all_fail = [&] {
    EXPECT_EQ(add(ours_), hixl::kFailed);
    EXPECT_EQ(engine_.DeregisterMem(nullptr), hixl::kFailed);
    EXPECT_EQ(connect(), hixl::kFailed);
    EXPECT_EQ(disconnect(), hixl::kFailed);
    EXPECT_EQ(transfer({{1, 1, 1}}), hixl::kFailed);
    EXPECT_EQ(engine_.TransferAsync("", kRead, {{1, 1, 1}}, {}, request), hixl::kFailed);
    EXPECT_EQ(poll(&request), hixl::kFailed);
  };
  expect_all_fail();
  open_here();
  EXPECT_EQ(fake_hixl_live_engines(), 1u);
  engine_.Finalize();
  expect_all_fail();
  EXPECT_EQ(fake_hixl_live_engines(), 0u);
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), kSuccess) << "once more";
}

TEST_F(Connecting, to_an_engine_that_was_initialized_over_still_works) {
  ASSERT_EQ(peer_.open(), kSuccess);
  theirs_ = peer_.add_region(kMemDevice, kSize, kTheirs);
  const std::string before = peer_.name();
  EXPECT_EQ(peer_.open(), kSuccess);
  hixl::Hixl other;
  EXPECT_EQ(initialize(other, "127.0.0.1"), kSuccess);
  EXPECT_EQ(other.Connect(before.c_str()), kSuccess) << "nobody can finalize it any more";
}

TEST_F(Connecting, is_not_enough_for_notifies) {
  open_and_connect();
  std::vector<hixl::NotifyDesc> notifies;
  EXPECT_EQ(engine_.SendNotify(peer_.name().c_str(), {"name", std::string(1025, 'x').c_str()}), hixl::kParamInvalid);
  EXPECT_EQ(engine_.SendNotify(peer_.name().c_str(), {"name", "message"}), hixl::kUnsupported);
  EXPECT_EQ(engine_.GetNotifies(notifies), hixl::kUnsupported);
  EXPECT_THAT(recent_error(), HasSubstr("the fake does not model GetNotifies"));
}

TEST_F(Connecting, looks_at_the_retry_settings) {
  open();
  ::setenv("HCCL_RDMA_TIMEOUT", "21", 1);
  EXPECT_EQ(connect(), hixl::kParamInvalid);
  ::setenv("HCCL_RDMA_TIMEOUT", "20", 1);
  EXPECT_EQ(connect(), kSuccess);
  ::unsetenv("HCCL_RDMA_TIMEOUT");
}

}  // namespace
}  // namespace fake_hixl::test
