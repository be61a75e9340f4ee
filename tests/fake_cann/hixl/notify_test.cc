// What a slot's notify does to the requests of other links, when a link goes down with some in flight.
#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Two links of an engine, which share one slot.
class Notifies : public Engines {
 protected:
  Notifies() {
    open_and_connect({{"GlobalResourceConfig", R"({"comm_resource_config.max_active_channels":1})"}});
    EXPECT_EQ(other_.open(), kSuccess);
    others_ = other_.add_region(kMemDevice, kSize, kOthers);
    EXPECT_EQ(engine_.Connect(other_.name().c_str()), kSuccess);
    fake_hixl_reset_counters();
  }

  static constexpr unsigned kOthers = 3;  // a seed

  static void delay_transfers(int ms) { fake_hixl_set("FAKE_HIXL_TRANSFER_DELAY_US", std::to_string(ms * 1000).c_str()); }
  // One on the first link, with its bytes on their way.
  TransferReq under_way() {
    fake_hixl_reset_counters();
    TransferReq request = nullptr;
    EXPECT_EQ(start(request), kSuccess);
    while (fake_hixl_launches() == 0) std::this_thread::yield();
    return request;
  }
  hixl::Status start_other(TransferReq& request) {
    return engine_.TransferAsync(other_.name().c_str(), kRead, {{ours_.address(), others_.address, kSize}}, {}, request);
  }
  // Disconnects the first link in a thread of its own.
  [[nodiscard]] std::thread disconnecting() {
    return std::thread([this] {
      (void)aclrtSetDevice(0);
      EXPECT_EQ(disconnect(), kSuccess);
    });
  }
  // Starts on the other link as soon as the slot is free.
  TransferReq started_on_other() {
    TransferReq request = nullptr;
    hixl::Status status = hixl::kResourceExhausted;
    while ((status = start_other(request)) == hixl::kResourceExhausted) std::this_thread::yield();
    EXPECT_EQ(status, kSuccess) << recent_error();
    return request;
  }
  // The first link goes down with a request that ends while its slot's thread is freed.
  void taint() {
    fake_hixl_set("FAKE_HIXL_ABORT_HOLD_MS", "200");
    delay_transfers(20);
    (void)under_way();
    EXPECT_EQ(disconnect(), kSuccess);
    fake_hixl_reset_switches();
  }

  PeerProcess other_;
  PeerMemory others_;
};

TEST_F(Notifies, tell_of_others_ends_once_a_request_ended_while_its_slot_was_aborted) {
  taint();
  EXPECT_TRUE(ours_.holds(kTheirs));
  EXPECT_EQ(fake_hixl_stray_records(), 1u);
  EXPECT_EQ(fake_hixl_tainted_slots(), 1u);
  EXPECT_EQ(fake_hixl_taken_slots(), 0u);
  for (std::uint64_t early = 1; early <= 3; ++early) {
    ours_.fill(kOurs);
    delay_transfers(200);
    TransferReq request = nullptr;
    EXPECT_EQ(start_other(request), kSuccess);
    EXPECT_EQ(poll_to_the_end(request), kSuccess);
    EXPECT_EQ(status_, TransferStatus::COMPLETED);
    EXPECT_TRUE(ours_.holds(kOurs)) << "nothing has arrived yet";
    EXPECT_EQ(fake_hixl_early_completions(), early) << "for good: its own record is the next one's";
    while (fake_hixl_tainted_slots() == 0) std::this_thread::yield();
    EXPECT_TRUE(ours_.holds(kOthers));
  }
}

TEST_F(Notifies, are_one_too_early_also_for_requests_behind_each_other) {
  taint();
  delay_transfers(200);
  TransferReq first = nullptr;
  TransferReq second = nullptr;
  EXPECT_EQ(start_other(first), kSuccess);
  EXPECT_EQ(start_other(second), kSuccess);
  EXPECT_EQ(poll_to_the_end(first), kSuccess);
  EXPECT_EQ(poll(second), kSuccess);
  EXPECT_EQ(status_, TransferStatus::WAITING);
  EXPECT_EQ(poll_to_the_end(second), kSuccess);
  EXPECT_EQ(fake_hixl_ops(), 2u) << "of the first link and of the first request: the second one's bytes are on their way";
  EXPECT_EQ(fake_hixl_early_completions(), 2u);
}

TEST_F(Notifies, are_clean_again_with_the_last_engine_of_the_device) {
  taint();
  engine_.Finalize();
  EXPECT_EQ(fake_hixl_slots(), 0u);
  EXPECT_EQ(fake_hixl_tainted_slots(), 0u);
  open_here();
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(read(), kSuccess);
  EXPECT_EQ(fake_hixl_early_completions(), 0u);
}

TEST_F(Notifies, stay_clean_where_requests_ended_before) {
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(fake_hixl_aborts(), 0u);
  EXPECT_EQ(fake_hixl_tainted_slots(), 0u);
}

TEST_F(Notifies, stay_clean_where_requests_end_long_after) {
  delay_transfers(60000);
  TransferReq request = under_way();
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(fake_hixl_aborts(), 1u);
  EXPECT_EQ(fake_hixl_stray_records() + fake_hixl_tainted_slots(), 0u);
  fake_hixl_reset_switches();
  EXPECT_EQ(start_other(request), kSuccess);
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
  EXPECT_TRUE(ours_.holds(kOthers));
}

TEST_F(Notifies, are_recorded_for_who_has_the_slot_by_then) {
  fake_hixl_set("FAKE_HIXL_ABORT_GAP_MS", "800");
  delay_transfers(300);
  (void)under_way();
  std::thread disconnect = disconnecting();
  delay_transfers(60000);
  EXPECT_EQ(poll_to_the_end(started_on_other()), kSuccess);
  EXPECT_EQ(status_, TransferStatus::COMPLETED);
  EXPECT_TRUE(ours_.holds(kTheirs)) << "what the link that is gone had asked for";
  EXPECT_EQ(fake_hixl_early_completions(), 1u);
  disconnect.join();
}

TEST_F(Notifies, come_where_another_link_was_done_before_the_second_abort) {
  fake_hixl_set("FAKE_HIXL_ABORT_GAP_MS", "500");
  delay_transfers(60000);
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(start(request), kSuccess) << "two are in flight: two aborts";
  std::thread disconnect = disconnecting();
  delay_transfers(0);
  EXPECT_EQ(poll_to_the_end(started_on_other()), kSuccess);
  EXPECT_TRUE(ours_.holds(kOthers));
  disconnect.join();
  EXPECT_EQ(fake_hixl_aborts(), 1u) << "nobody had the slot any more";
}

TEST_F(Notifies, never_come_where_a_slot_is_aborted_under_another_link) {
  fake_hixl_set("FAKE_HIXL_ABORT_GAP_MS", "300");
  delay_transfers(60000);
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(start(request), kSuccess);
  std::thread disconnect = disconnecting();
  delay_transfers(900);
  const TransferReq others = started_on_other();
  disconnect.join();
  EXPECT_EQ(fake_hixl_aborts(), 2u);
  EXPECT_EQ(fake_hixl_aborts_of_others(), 1u);
  EXPECT_EQ(start_other(request), 107003u) << "its stream is gone";
  while (!ours_.holds(kOthers)) std::this_thread::yield();
  EXPECT_EQ(poll(others), kSuccess);
  EXPECT_EQ(status_, TransferStatus::WAITING) << "though its bytes have arrived";
  EXPECT_EQ(engine_.Disconnect(other_.name().c_str()), kSuccess);
  EXPECT_EQ(engine_.Connect(other_.name().c_str()), kSuccess);
  EXPECT_EQ(fake_hixl_taken_slots(), 0u);
}

TEST_F(Notifies, are_left_recorded_by_a_transfer_that_timed_out) {
  delay_transfers(300);
  EXPECT_EQ(transfer({whole()}, kRead, 100), hixl::kTimeout);
  while (fake_hixl_stray_records() == 0) std::this_thread::yield();
  EXPECT_TRUE(ours_.holds(kTheirs)) << "and its bytes arrive";
  EXPECT_EQ(fake_hixl_tainted_slots(), 1u);
}

TEST_F(Notifies, and_slots_are_locked_while_one_is_aborted) {
  fake_hixl_set("FAKE_HIXL_ABORT_HOLD_MS", "200");
  delay_transfers(60000);
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  const auto begin = steady_clock::now();
  std::thread disconnect = disconnecting();
  (void)started_on_other();
  EXPECT_GE(steady_clock::now() - begin, milliseconds(200)) << "of all links of the device";
  disconnect.join();
}

}  // namespace
}  // namespace fake_hixl::test
