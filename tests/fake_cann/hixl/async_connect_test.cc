#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using hixl::AsyncConnectStatus;

class AsyncConnect : public Engines {
 protected:
  AsyncConnectStatus status() {
    AsyncConnectStatus status = AsyncConnectStatus::kConnectFailed;
    EXPECT_EQ(engine_.GetAsyncConnectStatus(peer_.name().c_str(), status), kSuccess);
    return status;
  }
  // Waits while the status is one of those that pass.
  AsyncConnectStatus settled() {
    while (true) {
      switch (const AsyncConnectStatus now = status()) {
        case AsyncConnectStatus::kConnectPending:
        case AsyncConnectStatus::kConnecting:
        case AsyncConnectStatus::kDisconnectPending:
        case AsyncConnectStatus::kDisconnecting: std::this_thread::yield(); break;
        default: return now;
      }
    }
  }
  hixl::Status connect_later(int timeout_ms = 5000) { return engine_.ConnectAsync(peer_.name().c_str(), timeout_ms); }
};

TEST_F(AsyncConnect, goes_there_and_back) {
  open();
  EXPECT_EQ(status(), AsyncConnectStatus::kNotConnect);
  EXPECT_EQ(connect_later(), kSuccess);
  EXPECT_EQ(settled(), AsyncConnectStatus::kConnected);
  EXPECT_EQ(read(), kSuccess);
  EXPECT_EQ(connect_later(), kSuccess);
  EXPECT_EQ(settled(), AsyncConnectStatus::kConnected) << "also when it was";
  std::map<ge::AscendString, AsyncConnectStatus> all;
  EXPECT_EQ(engine_.GetAsyncConnectStatus(all), kSuccess);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all.begin()->first.GetString(), peer_.name());
  EXPECT_EQ(all.begin()->second, AsyncConnectStatus::kConnected);
  EXPECT_EQ(engine_.DisconnectAsync(peer_.name().c_str()), kSuccess);
  EXPECT_EQ(settled(), AsyncConnectStatus::kNotConnect);
  EXPECT_EQ(fake_hixl_links(), 0u);
}

TEST_F(AsyncConnect, keeps_the_order_of_a_remote) {
  open();
  EXPECT_EQ(connect_later(), kSuccess);
  EXPECT_EQ(engine_.DisconnectAsync(peer_.name().c_str()), kSuccess);
  EXPECT_EQ(connect_later(), kSuccess);
  EXPECT_EQ(settled(), AsyncConnectStatus::kConnected);
  EXPECT_EQ(read(), kSuccess);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(status(), AsyncConnectStatus::kNotConnect) << "a Disconnect ends the record";
}

TEST_F(AsyncConnect, may_fail) {
  open();
  peer_.finalize();
  EXPECT_EQ(connect_later(0), hixl::kParamInvalid);
  EXPECT_EQ(connect_later(), kSuccess);
  EXPECT_EQ(settled(), AsyncConnectStatus::kConnectFailed);
}

TEST_F(AsyncConnect, has_a_queue_with_an_end) {
  open({{"GlobalResourceConfig", R"({"connect_pool.thread_num":1,"connect_pool.task_queue_capacity":"2"})"}});
  fake_hixl_set("FAKE_HIXL_CONNECT_DELAY_MS", "100");
  EXPECT_EQ(connect_later(), kSuccess);
  while (status() != AsyncConnectStatus::kConnecting) std::this_thread::yield();
  EXPECT_EQ(connect_later(), kSuccess);
  EXPECT_EQ(status(), AsyncConnectStatus::kConnectPending);
  EXPECT_EQ(connect_later(), kSuccess);
  EXPECT_EQ(connect_later(), hixl::kResourceExhausted);
  engine_.Finalize();  // drops what has not begun
}

}  // namespace
}  // namespace fake_hixl::test
