// Two processes on one NPU of Ascend910: within a machine HIXL takes HCCS before RoCE, and does not look whose device the other end is.
#include "hixl/support/chips.h"

namespace fake_hixl::test {
namespace {

using testing::HasSubstr;

class SameNpu : public Chips {
 protected:
  static TestOptions at(int port, const std::string& more = "") {
    return hixl_engine(R"({"comm_resource_config.listen_port":)" + std::to_string(port) + more + "}");
  }
  // RoCE alone, as the caller's own list of endpoints.
  static TestOptions listed(int port, const char* protocol, const char* id) {
    TestOptions options = at(port);
    options["LocalCommRes"] = R"({"version":"1.3","net_instance_id":"x","endpoint_list":[{"protocol":")" + std::string(protocol) +
                              R"(","placement":"device","comm_id":")" + id + R"("}]})";
    return options;
  }
  // Ours is read by the other process on our device.
  hixl::Status link(const TestOptions& ours, const TestOptions& others, const std::vector<std::string>& environment = {}) {
    open_here(ours);
    PeerProcess same(0, environment);
    EXPECT_EQ(same.open(others), kSuccess);
    const PeerMemory target = same.add_region(kMemDevice, kSize, kTheirs);
    const hixl::Status status = same.connect(name_);
    if (status == kSuccess) {
      EXPECT_EQ(same.transfer(kRead, target, name_, ours_.address()), kSuccess);
      EXPECT_TRUE(same.holds(target, kOurs));
    }
    return status;
  }
};

constexpr const char* kRoce = R"(,"comm_resource_config.protocol_desc":["roce:device"])";

TEST_F(SameNpu, is_not_linked_over_hccs) {
  expect_well([&] { EXPECT_EQ(link(at(16666), at(16667)), hixl::kFailed); });
}

TEST_F(SameNpu, is_linked_over_roce_where_one_of_them_has_nothing_else) {
  expect_well([&] { EXPECT_EQ(link(at(16666), at(16667, kRoce)), kSuccess); });
}

TEST_F(SameNpu, is_linked_over_roce_where_hccs_is_turned_off) {
  ::setenv("HCCL_INTRA_ROCE_ENABLE", "1", 1);
  expect_well([&] { EXPECT_EQ(link(at(16666), at(16667)), kSuccess); });
}

TEST_F(SameNpu, is_not_where_it_is_turned_off_by_another_word) {
  for (const char* word : {"0", "true", "2", "1 "}) {
    ::setenv("HCCL_INTRA_ROCE_ENABLE", word, 1);
    expect_well([&] { EXPECT_EQ(link(at(16666), at(16667)), hixl::kFailed); });
  }
}

TEST_F(SameNpu, is_linked_over_what_the_caller_lists) {
  expect_well([&] { EXPECT_EQ(link(listed(16666, "roce", "10.0.0.1"), listed(16667, "roce", "10.0.0.1")), kSuccess); });
}

TEST_F(SameNpu, is_not_listed_where_nothing_is_left) {
  ::setenv("HCCL_INTRA_ROCE_ENABLE", "1", 1);
  expect_well([&] {
    EXPECT_EQ(initialize(engine_, "127.0.0.1", listed(16666, "hccs", "0")), hixl::kParamInvalid);
    EXPECT_THAT(recent_error(), HasSubstr("HCCL_INTRA_ROCE_ENABLE=1 leaves no other"));
    EXPECT_EQ(initialize(engine_, "127.0.0.1", at(16666, R"(,"comm_resource_config.protocol_desc":"hccs:device")")), hixl::kParamInvalid);
  });
}

class SameNpuOnA3 : private A3, public SameNpu {};

TEST_F(SameNpuOnA3, is_linked_over_roce_alone) {
  expect_well([&] { EXPECT_EQ(link(at(16666), at(16667)), hixl::kFailed); });
  expect_well([&] { EXPECT_EQ(link(at(16666), at(16667, kRoce)), kSuccess); });
}

}  // namespace
}  // namespace fake_hixl::test
