// The other engine of the 9.x library: chosen by a LocalCommRes of another version than 1.3.
#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using testing::HasSubstr;

class CommEngine : public Engines {
 protected:
  static TestOptions options(const TestOptions& more = {}) {
    TestOptions all = {{"LocalCommRes", R"({"version":"1.2"})"}, {"BufferPool", "0:0"}};
    all.insert(more.begin(), more.end());
    return all;
  }
};

TEST_F(CommEngine, moves_bytes) {
  open(options(), options());
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(read(), kSuccess);
  EXPECT_TRUE(ours_.holds(kTheirs));
  EXPECT_EQ(transfer({{ours_.address(), theirs_.address, 0}}), kSuccess) << "of nothing is not minded";
}

TEST_F(CommEngine, has_no_staging_in_the_fake) {
  EXPECT_EQ(initialize(engine_, "127.0.0.1", {{"LocalCommRes", "{}"}}), hixl::kUnsupported);
  EXPECT_THAT(recent_error(), HasSubstr("BufferPool is 4:8 by default"));
  EXPECT_EQ(initialize(engine_, "127.0.0.1", {{"LocalCommRes", "{}"}, {"BufferPool", "2:2"}}), hixl::kUnsupported);
}

TEST_F(CommEngine, does_not_talk_to_the_other_one) {
  open({}, options());
  EXPECT_EQ(connect(), hixl::kFailed);
  EXPECT_THAT(recent_error(), HasSubstr("other engine"));
}

TEST_F(CommEngine, minds_names) {
  std::string port;
  for (hixl::Status status = hixl::kFailed; status != kSuccess;) {
    port = some_name().substr(10);
    status = peer_.open(options(), "127.0.0.1:0" + port);
  }
  open_here(options());
  EXPECT_EQ(engine_.Connect(("127.0.0.1:" + port).c_str(), 1000), hixl::kFailed) << "it listens there, but this is not its name";
  EXPECT_THAT(recent_error(), HasSubstr("its name is 127.0.0.1:0" + port));
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(CommEngine, loses_its_link_to_a_namesake) {
  fake_hixl_set("FAKE_HIXL_RETRY_MS", "1");
  ASSERT_EQ(peer_.open(options()), kSuccess);
  theirs_ = peer_.add_region(kMemDevice, kSize, kTheirs);
  EXPECT_EQ(initialize(engine_, "127.0.0.1", options()), kSuccess);
  EXPECT_EQ(add(ours_), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  PeerProcess namesake(0);
  ASSERT_EQ(namesake.open(options(), "127.0.0.1"), kSuccess);
  EXPECT_EQ(namesake.connect(peer_.name()), kSuccess);
  EXPECT_EQ(read(), hixl::kFailed);
}

TEST_F(CommEngine, does_not_link_a_device_with_itself) {
  open_here(options());
  PeerProcess same(0);
  ASSERT_EQ(same.open(options()), kSuccess);
  EXPECT_EQ(same.connect(name_), hixl::kParamInvalid);
  EXPECT_EQ(engine_.Connect(name_.c_str()), hixl::kParamInvalid);
}

TEST_F(CommEngine, leaves_registration_to_others) {
  open(options(), options());
  EXPECT_EQ(connect(), kSuccess);
  const MemHandle first = handle_;
  EXPECT_EQ(add(ours_), kSuccess);
  EXPECT_NE(handle_, first);
  EXPECT_EQ(engine_.RegisterMem({ours_.address() + 1, 100, {}}, kMemDevice, handle_), kSuccess) << "an overlap";
  EXPECT_EQ(engine_.DeregisterMem(handle_), kSuccess) << "with a link";
}

TEST_F(CommEngine, breaks_a_link_where_memory_is_not_known) {
  open(options(), options());
  EXPECT_EQ(connect(), kSuccess);
  const PeerMemory late = peer_.add_region(kMemDevice, kSize, 4);
  EXPECT_EQ(transfer({{ours_.address(), late.address, kSize}}), hixl::kFailed);
  EXPECT_THAT(recent_error(), HasSubstr("Can't find remoteBuffer by key"));
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(transfer({{ours_.address(), late.address, kSize}}), kSuccess);
}

TEST_F(CommEngine, breaks_a_link_at_any_unknown_status) {
  open(options(), options());
  EXPECT_EQ(connect(), kSuccess);
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:call:507018");
  EXPECT_EQ(read(), 507018u);
  EXPECT_EQ(read(), hixl::kFailed);
}

TEST_F(CommEngine, polls_one_by_one_and_remembers_what_was_disconnected) {
  open(options(), options());
  EXPECT_EQ(connect(), kSuccess);
  std::vector<hixl::TransferResult> results;
  EXPECT_EQ(engine_.GetTransferStatus(hixl::GetTransferStatusArgs{}, results), hixl::kUnsupported);
  TransferReq first = nullptr;
  TransferReq second = nullptr;
  EXPECT_EQ(start(first), kSuccess);
  EXPECT_EQ(poll_to_the_end(first), kSuccess);
  EXPECT_EQ(start(second), kSuccess);
  EXPECT_NE(first, second) << "requests are counted";
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(poll(second), hixl::kNotConnected);
  EXPECT_EQ(status_, TransferStatus::FAILED);
  EXPECT_EQ(poll(second), hixl::kParamInvalid);
}

TEST_F(CommEngine, has_so_many_channels) {
  open(options({{"GlobalResourceConfig", R"({"channel_pool.max_channel":1})"}}), options());
  PeerProcess other;
  ASSERT_EQ(other.open(options()), kSuccess);
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(engine_.Connect(other.name().c_str()), hixl::kResourceExhausted);
  EXPECT_EQ(other.connect(name_), hixl::kResourceExhausted) << "inbound ones count as well";
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(other.connect(name_), kSuccess);
}

TEST_F(CommEngine, connects_one_after_the_other) {
  open(options(), options());
  PeerProcess other;
  ASSERT_EQ(other.open(options()), kSuccess);
  fake_hixl_set("FAKE_HIXL_CONNECT_DELAY_MS", "30");
  const auto begin = std::chrono::steady_clock::now();
  std::thread also([&] {
    (void)aclrtSetDevice(0);
    EXPECT_EQ(engine_.Connect(other.name().c_str()), kSuccess);
  });
  EXPECT_EQ(connect(), kSuccess);
  also.join();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(60));
}

TEST_F(CommEngine, waits_for_whole_seconds) {
  open(options(), options());
  fake_hixl_set("FAKE_HIXL_CONNECT_DELAY_MS", "20");
  EXPECT_EQ(connect(1), kSuccess);
}

TEST_F(CommEngine, evicts_nothing_in_the_fake) {
  const TestOptions waterlines = {{"GlobalResourceConfig", R"({"channel_pool.high_waterline":0.5,"channel_pool.low_waterline":"0.1"})"}};
  EXPECT_EQ(initialize(engine_, "127.0.0.1", options(waterlines)), hixl::kUnsupported);
}

}  // namespace
}  // namespace fake_hixl::test
