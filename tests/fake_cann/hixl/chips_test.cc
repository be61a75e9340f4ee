// What is different on Ascend910.
#include "hixl/support/chips.h"

namespace fake_hixl::test {
namespace {

using testing::HasSubstr;

TEST_F(Chips, of_910_need_the_address_of_their_card) {
  expect_well([&] {
    std::ofstream(path) << "address_7=10.0.0.1\n";
    for (const TestOptions& options : {hixl_engine(), comm_engine()}) {
      EXPECT_EQ(initialize(engine_, "127.0.0.1", options), hixl::kFailed);
      EXPECT_THAT(recent_error(), HasSubstr("no device ip"));
    }
    std::remove(path.c_str());
    EXPECT_EQ(initialize(engine_, "127.0.0.1", hixl_engine()), hixl::kFailed);
  });
}

TEST_F(Chips, of_910_need_no_address_where_roce_is_not_asked_for) {
  expect_well([&] {
    std::remove(path.c_str());
    const TestOptions hccs = hixl_engine(R"({"comm_resource_config.protocol_desc":["hccs:device"]})");
    open(hccs, hccs);
    EXPECT_EQ(connect(), kSuccess) << recent_error();
    EXPECT_EQ(read(), kSuccess);
    hixl::Hixl other;
    for (const char* wanted : {"roce:device", "hccs:device\",\"roce:device"}) {
      const std::string json = std::string(R"({"comm_resource_config.listen_port":16667,"comm_resource_config.protocol_desc":[")") + wanted;
      EXPECT_EQ(initialize(other, "127.0.0.1", hixl_engine(json + R"("]})")), hixl::kFailed) << wanted;
    }
  });
}

TEST_F(Chips, of_910_listen_at_one_port_of_their_card) {
  expect_well([&] {
    open_here(hixl_engine());
    EXPECT_EQ(peer_.open(hixl_engine()), kSuccess) << "on the other device";
    PeerProcess same(0);
    EXPECT_EQ(same.open(hixl_engine()), hixl::kFailed);
    EXPECT_EQ(same.open(comm_engine()), hixl::kFailed);
    EXPECT_EQ(same.open(hixl_engine(R"({"comm_resource_config.listen_port":16667})")), kSuccess);
  });
}

TEST_F(Chips, of_910_run_the_comm_engine_unless_told_otherwise) {
  expect_well([&] {
    std::vector<hixl::TransferResult> results;
    const auto polls_batches = [&](const TestOptions& options) {
      engine_.Finalize();
      EXPECT_EQ(initialize(engine_, "127.0.0.1", options), kSuccess) << recent_error();
      return engine_.GetTransferStatus(hixl::GetTransferStatusArgs{}, results) == kSuccess;
    };
    EXPECT_FALSE(polls_batches(comm_engine()));
    EXPECT_TRUE(polls_batches(hixl_engine()));
    EXPECT_TRUE(polls_batches({{"GlobalResourceConfig", R"({"comm_resource_config.protocol_desc":"roce:device"})"}}));
  });
}

TEST_F(Chips, of_910_take_only_pinned_host_memory) {
  expect_well([&] {
    open_here(hixl_engine());
    std::vector<char> heap(4096);
    EXPECT_EQ(engine_.RegisterMem({reinterpret_cast<std::uintptr_t>(heap.data()), heap.size(), {}}, kMemHost, handle_),
              hixl::kParamInvalid);
    const Memory pinned(kMemHost, 4096, 1);
    EXPECT_EQ(add(pinned), kSuccess);
  });
}

// Both take HCCS where they can, which reaches no host memory on A2 and no remote one on A3.
class Hccs : public Chips {
 protected:
  void open_all(const std::string& resources = "{}") {
    ASSERT_EQ(peer_.open(hixl_engine(resources)), kSuccess);
    theirs_ = peer_.add_region(kMemDevice, kSize, kTheirs);
    host_of_theirs_ = peer_.add_region(kMemHost, kSize, 3);
    open_here(hixl_engine(resources));
    EXPECT_EQ(add(host_), kSuccess);
    EXPECT_EQ(connect(), kSuccess);
    EXPECT_EQ(read(), kSuccess);
  }
  hixl::Status read_into_host() { return transfer({{host_.address(), theirs_.address, kSize}}); }
  hixl::Status read_from_host() { return transfer({{ours_.address(), host_of_theirs_.address, kSize}}); }

  PeerMemory host_of_theirs_;
  const Memory host_{kMemHost, kSize, 4};
};

TEST_F(Hccs, reaches_only_devices_on_a2) {
  expect_well([&] {
    open_all();
    EXPECT_EQ(read_into_host(), hixl::kFailed);
    EXPECT_EQ(disconnect(), kSuccess);
    EXPECT_EQ(connect(), kSuccess);
    EXPECT_EQ(read_from_host(), hixl::kFailed);
  });
}

class HccsOnA3 : private A3, public Hccs {};

TEST_F(HccsOnA3, reaches_ones_own_host_memory) {
  expect_well([&] {
    open_all();
    EXPECT_EQ(read_into_host(), kSuccess);
    EXPECT_EQ(read_from_host(), hixl::kFailed);
  });
}

TEST_F(Hccs, can_be_left_for_roce) {
  expect_well([&] {
    open_all(R"({"comm_resource_config.protocol_desc":["roce:device"]})");
    EXPECT_EQ(read_into_host(), kSuccess);
    EXPECT_EQ(read_from_host(), kSuccess);
  });
}

TEST_F(Hccs, takes_no_host_memory_where_it_is_all_there_is) {
  expect_well([&] {
    open_here(hixl_engine(R"({"comm_resource_config.protocol_desc":"hccs:device"})"));
    EXPECT_EQ(add(host_), hixl::kParamInvalid);
    EXPECT_THAT(recent_error(), HasSubstr("no endpoint takes such memory"));
  });
}

TEST_F(Hccs, can_be_turned_off) {
  ::setenv("HCCL_INTRA_ROCE_ENABLE", "1", 1);
  expect_well([&] {
    ASSERT_EQ(peer_.open(hixl_engine()), kSuccess);
    open_here(hixl_engine());
    EXPECT_EQ(connect(), kSuccess) << "by one of them";
    hixl::Hixl other;
    ::unsetenv("HCCL_INTRA_ROCE_ENABLE");
    const TestOptions own_port =
        hixl_engine(R"({"comm_resource_config.listen_port":16667,"comm_resource_config.protocol_desc":"hccs:device"})");
    EXPECT_EQ(initialize(other, "127.0.0.1", own_port), kSuccess);
    EXPECT_EQ(other.Connect(peer_.name().c_str()), hixl::kParamInvalid) << "the peer has no HCCS";
  });
}

}  // namespace
}  // namespace fake_hixl::test
