// HIXL 8.5: only the CommEngine, and none of the methods that came with 9.1.
#include <dlfcn.h>

#include <cstdlib>
#include <fstream>
#include <random>

#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using testing::HasSubstr;

// Addresses of network cards that nobody else uses: 8.5 listens at port 16666 of them and at no other.
struct Cards {
  Cards() {
    std::random_device random;
    std::ofstream file(path);
    for (int device = 0; device < 2; ++device) file << "address_" << device << "=10." << random() % 256 << "." << random() % 256 << ".1\n";
    ::setenv("FAKE_HIXL_HCCN_CONF", path.c_str(), 1);
    ::setenv("FAKE_CANN_SOC", "Ascend910B3", 1);
    fake_hixl_reset_switches();
  }
  ~Cards() { std::remove(path.c_str()); }
  const std::string path = testing::TempDir() + "fake_hixl_hccn_85_" + std::to_string(::getpid());
};

class Hixl85 : private Cards, public Engines {
 protected:
  static TestOptions options() { return {{"BufferPool", "0:0"}}; }
  void open_both() { open(options(), options()); }
};

TEST_F(Hixl85, moves_bytes) {
  open_both();
  EXPECT_EQ(connect(), kSuccess) << recent_error();
  EXPECT_EQ(read(), kSuccess);
  EXPECT_TRUE(ours_.holds(kTheirs));
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(poll_to_the_end(request), kSuccess);
  EXPECT_STREQ(fake_hixl_version(), "FAKE 8.5.0");
}

TEST_F(Hixl85, has_nothing_that_came_later) {
  void* const library = ::dlopen("libcann_hixl.so", RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(library, nullptr);
  EXPECT_NE(::dlsym(library, "_ZN4hixl4Hixl17GetTransferStatusERKPvRNS_14TransferStatusE"), nullptr);
  EXPECT_EQ(::dlsym(library, "_ZN4hixl4Hixl13GetCapabilityENS_11FeatureTypeERi"), nullptr);
  ::dlclose(library);
}

TEST_F(Hixl85, is_not_made_another_by_a_switch) {
  fake_hixl_set("FAKE_HIXL_FLAVOUR", "9.2");
  EXPECT_STREQ(fake_hixl_version(), "FAKE 8.5.0");
}

TEST_F(Hixl85, passes_over_options_that_it_does_not_know) {
  TestOptions given = options();
  given["LocalCommRes"] = "no JSON";
  given["AutoConnect"] = "1";
  given["GlobalResourceConfig"] = R"({"comm_resource_config.listen_port":1})";
  given["whatever"] = "";
  ASSERT_EQ(peer_.open(options()), kSuccess);
  theirs_ = peer_.add_region(kMemDevice, kSize, kTheirs);
  open_here(given);
  EXPECT_EQ(read(), hixl::kNotConnected) << "no AutoConnect";
  EXPECT_EQ(connect(), kSuccess);
}

TEST_F(Hixl85, looks_at_those_that_it_knows) {
  TestOptions given = options();
  given["RdmaTrafficClass"] = "133";
  EXPECT_EQ(initialize(engine_, "127.0.0.1", given), hixl::kParamInvalid);
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), hixl::kUnsupported);
  EXPECT_THAT(recent_error(), HasSubstr("BufferPool is 4:8 by default: staging of unregistered memory is not modelled"));
}

TEST_F(Hixl85, has_one_engine_for_each_card) {
  open_here(options());
  PeerProcess same(0);
  EXPECT_EQ(same.open(options()), hixl::kFailed);
  EXPECT_EQ(peer_.open(options()), kSuccess);
}

TEST_F(Hixl85, deregisters_with_links_and_breaks_them_later) {
  open_both();
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(engine_.DeregisterMem(handle_), kSuccess);
  EXPECT_EQ(read(), hixl::kFailed);
  EXPECT_EQ(read(), hixl::kFailed);
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), hixl::kFailed);
}

TEST_F(Hixl85, says_that_a_request_lost_its_link) {
  open_both();
  EXPECT_EQ(connect(), kSuccess);
  TransferReq request = nullptr;
  EXPECT_EQ(start(request), kSuccess);
  EXPECT_EQ(disconnect(), kSuccess);
  EXPECT_EQ(poll(request), hixl::kNotConnected);
  EXPECT_EQ(status_, TransferStatus::FAILED);
}

}  // namespace
}  // namespace fake_hixl::test
