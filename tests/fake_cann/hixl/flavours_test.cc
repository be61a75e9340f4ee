// 9.2 is what all other tests run on; here is what the older ones of 9.x do differently.
#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using hixl::FeatureType;

class Flavours : public Engines {
 protected:
  static void play(const char* flavour) { fake_hixl_set("FAKE_HIXL_FLAVOUR", flavour); }
  static hixl::Status capability(int feature, int expected) {
    std::int32_t value = -1;
    const hixl::Status status = hixl::Hixl::GetCapability(static_cast<FeatureType>(feature), value);
    EXPECT_EQ(value, status == kSuccess ? expected : 0);
    return status;
  }
};

TEST_F(Flavours, have_capabilities) {
  EXPECT_EQ(capability(0, 1), kSuccess);
  EXPECT_EQ(capability(1, 1), kSuccess);
  EXPECT_EQ(capability(2, 0), kSuccess);
  EXPECT_EQ(capability(-1, 0), hixl::kParamInvalid);
  for (const char* flavour : {"9.1", "9.2-beta.1"}) {
    play(flavour);
    EXPECT_EQ(capability(1, 1), kSuccess);
    EXPECT_EQ(capability(2, 0), hixl::kUnsupported) << flavour;
    EXPECT_EQ(capability(-1, 0), hixl::kParamInvalid);
  }
}

TEST_F(Flavours, have_versions) {
  EXPECT_STREQ(fake_hixl_version(), "FAKE 9.2.0");
  play("9.1");
  EXPECT_STREQ(fake_hixl_version(), "FAKE 9.1.0");
  play("9.2-beta.1");
  EXPECT_STREQ(fake_hixl_version(), "FAKE 9.2.0-beta.1");
}

TEST_F(Flavours, before_9_2_do_not_know_its_options) {
  for (const char* json : {R"({"fabric_memory.enable_aicpu_unfold":true})", R"({"local_comm_res_path":"/dev/null"})"}) {
    play("9.1");
    EXPECT_EQ(initialize(engine_, "127.0.0.1", {{"GlobalResourceConfig", json}}), hixl::kParamInvalid);
    EXPECT_THAT(recent_error(), testing::HasSubstr("not known"));
  }
}

TEST_F(Flavours, latch_failures) {
  play("9.1");
  open_and_connect();
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:poll");
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_EQ(read(), hixl::kFailed);
}

TEST_F(Flavours, latch_nothing_in_the_first_beta_of_9_2) {
  play("9.2-beta.1");
  open_and_connect();
  fake_hixl_set("FAKE_HIXL_FAIL_AT", "1:poll");
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_EQ(read(), kSuccess);
}

}  // namespace
}  // namespace fake_hixl::test
