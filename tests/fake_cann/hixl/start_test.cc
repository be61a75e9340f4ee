// Initialize that fails, and ports that are taken.
#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using testing::HasSubstr;

class Start : public Engines {
 protected:
  static std::size_t free_bytes() {
    std::size_t free = 0;
    std::size_t total = 0;
    (void)aclrtGetMemInfo(0, &free, &total);
    return free;
  }
  static TestOptions channels(int count) {
    return {{"GlobalResourceConfig", R"({"comm_resource_config.max_active_channels":)" + std::to_string(count) + "}"}};
  }
};

constexpr std::size_t kPage = std::size_t{2} << 20;

TEST_F(Start, takes_slots_and_a_page_and_gives_them_back) {
  const std::size_t before = free_bytes();
  ASSERT_EQ(initialize(engine_, "127.0.0.1", channels(16)), kSuccess);
  EXPECT_EQ(fake_hixl_slots(), 16u);
  EXPECT_EQ(before - free_bytes(), kPage);
  engine_.Finalize();
  EXPECT_EQ(fake_hixl_slots(), 0u);
  EXPECT_EQ(free_bytes(), before);
}

TEST_F(Start, leaves_slots_and_a_page_behind_where_it_cannot_listen) {
  ASSERT_EQ(peer_.open(), kSuccess);
  const std::size_t before = free_bytes();
  for (std::size_t tries = 1; tries <= 3; ++tries) {
    EXPECT_EQ(initialize(engine_, peer_.name(), channels(16)), hixl::kFailed);
    EXPECT_THAT(recent_error(), HasSubstr("cannot listen at " + peer_.name()));
    EXPECT_EQ(before - free_bytes(), tries * kPage);
    EXPECT_EQ(fake_hixl_slots(), 16u);
  }
  EXPECT_EQ(initialize(engine_, "127.0.0.1", channels(8)), hixl::kParamInvalid) << "they stay in use";
  EXPECT_EQ(initialize(engine_, "127.0.0.1", channels(16)), kSuccess);
}

TEST_F(Start, needs_a_page_of_the_device) {
  void* all = nullptr;
  ASSERT_EQ(aclrtMalloc(&all, free_bytes() / kPage * kPage, fake_cann::kHugeOnly), 0);
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), 207018u);
  EXPECT_EQ(fake_hixl_slots(), 0u);
  EXPECT_EQ(aclrtFree(all), 0);
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), kSuccess);
}

TEST_F(Start, fails_alike_for_other_causes_and_says_which) {
  const std::size_t before = free_bytes();
  for (const auto& [cause, text] : {std::pair{"kernel", "the kernels for the device's CPU"},
                                    {"endpoint", "makes no endpoint"},
                                    {"stream", "no stream or notify"},
                                    {"device_ip", "no device ip"}}) {
    fake_hixl_set("FAKE_HIXL_FAIL_INITIALIZE", cause);
    EXPECT_EQ(initialize(engine_, "127.0.0.1"), hixl::kFailed);
    EXPECT_THAT(recent_error(), HasSubstr(text));
  }
  EXPECT_EQ(free_bytes(), before);
  fake_hixl_set("FAKE_HIXL_FAIL_INITIALIZE", "stream:2");
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), hixl::kFailed);
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), hixl::kFailed);
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), kSuccess);
}

// Two engines on one device that were told the same port of its card.
TEST_F(Start, of_9_1_finds_the_cards_port_taken_when_somebody_connects) {
  fake_hixl_set("FAKE_HIXL_FLAVOUR", "9.1");
  const TestOptions options = {{"GlobalResourceConfig", R"({"comm_resource_config.listen_port":)" + some_name().substr(10) + "}"}};
  open_here(options);
  PeerProcess same(0, {"FAKE_HIXL_FLAVOUR=9.1"});
  ASSERT_EQ(same.open(options), kSuccess) << "nothing is taken yet";
  ASSERT_EQ(peer_.open(), kSuccess);
  EXPECT_EQ(peer_.connect(name_), kSuccess);
  for (int tries = 0; tries < 2; ++tries) EXPECT_EQ(peer_.connect(same.name()), hixl::kFailed) << "for good";
  engine_.Finalize();
  EXPECT_EQ(peer_.connect(same.name()), kSuccess);
}

TEST_F(Start, of_9_2_finds_it_taken_at_once) {
  const TestOptions options = {{"GlobalResourceConfig", R"({"comm_resource_config.listen_port":)" + some_name().substr(10) + "}"}};
  open_here(options);
  PeerProcess same(0);
  EXPECT_EQ(same.open(options), hixl::kFailed);
}

}  // namespace
}  // namespace fake_hixl::test
