// Finding CANN: with nothing there, with the FAKE runtime, and with libraries that are not what they should be.
//
// Libraries stay loaded and switches are read once, so what loads something runs in a process of its own (death tests).
#include "transport/hixl/cann/cann.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "support/child.h"
#include "transport/factories.h"

namespace ray_hixl::transport::hixl {
namespace {

using testing::ElementsAre;
using testing::ExitedWithCode;
using testing::HasSubstr;

// Says on stderr what was found, and ends the process.
[[noreturn]] void report(const Places& places, bool allow_fake = true) {
  const Result<Cann> cann = Cann::find(places, allow_fake);
  if (cann.is_ok()) {
    std::cerr << (cann->is_fake ? "FAKE " : "real ") << cann->devices << " x " << cann->soc << " by " << cann->acl.path << " and "
              << (cann->hixl.is_ok() ? cann->api.path : cann->hixl.to_string());
  } else {
    std::cerr << cann.status().to_string();
  }
  std::exit(0);  // NOLINT(concurrency-mt-unsafe): of a death test's child
}

class FindCann : public testing::Test {
 protected:
  FindCann() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  ~FindCann() override {
    for (const char* variable : {"FAKE_CANN_DEVICES", "FAKE_CANN_HIDE", "FAKE_CANN_BEFORE_92", "ASCEND_RT_VISIBLE_DEVICES",
                                 "RAY_HIXL_CANN_PATH", "ASCEND_HOME_PATH"}) {
      ::unsetenv(variable);
    }
  }
  const std::string runtime = FAKE_CANN_LIB;                        // the FAKE runtime, without HIXL
  const std::string with_empty_hixl = FAKE_CANN_LIB "/empty_hixl";  // with a libcann_hixl.so that is none
  const std::string with_old_hixl = FAKE_CANN_LIB "/some_hixl";     // with one that has the class and nothing else
  const std::string with_hixl = FAKE_CANN_LIB "/hixl";              // with the FAKE one
};

TEST_F(FindCann, names_every_path_that_was_tried) {
  const Status status = Cann::find({"/nowhere", "/nowhere/else"}, true).status();
  EXPECT_EQ(status.code(), Code::kNotAvailable);
  for (const char* path :
       {"/nowhere/libacl_rt.so", "/nowhere/libascendcl.so", "/nowhere/else/libacl_rt.so", "/nowhere/else/libascendcl.so"}) {
    EXPECT_THAT(status.message(), HasSubstr(path));
  }
  EXPECT_THAT(status.message(), HasSubstr("set_env.sh"));
}

TEST_F(FindCann, refuses_the_fake_outside_of_tests) {
  EXPECT_EXIT(report({runtime}, false), ExitedWithCode(0), "not_available: .*libacl_rt.so is the FAKE CANN of ray-hixl's tests");
}

TEST_F(FindCann, goes_without_hixl_and_says_that_it_is_missing) {
  EXPECT_EXIT(report({runtime}), ExitedWithCode(0),
              "FAKE 2 x .*libacl_rt.so and not_available: cannot load libcann_hixl.so .not there: .*fake_cann/lib/libcann_hixl.so");
}

TEST_F(FindCann, says_that_a_library_is_not_hixl) {
  EXPECT_EXIT(report({runtime, with_empty_hixl}), ExitedWithCode(0), "libcann_hixl.so has no class hixl::Hixl");
}

TEST_F(FindCann, names_what_hixl_lacks) {
  EXPECT_EXIT(report({runtime, with_old_hixl}), ExitedWithCode(0), "libcann_hixl.so lacks .*Initialize.*TransferAsync.*too old");
}

TEST_F(FindCann, says_why_a_library_that_is_there_cannot_be_loaded) {
  const std::filesystem::path folder = testing::TempDir() + "ray_hixl_broken_cann";
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "libacl_rt.so") << "no library";
  const Status status = Cann::find({folder}, true).status();
  EXPECT_THAT(status.message(), HasSubstr("libacl_rt.so: file too short"));
  EXPECT_THAT(status.message(), HasSubstr("not there: " + (folder / "libascendcl.so").string()));
  std::filesystem::remove_all(folder);
}

TEST_F(FindCann, counts_devices) {
  EXPECT_EXIT(report({runtime, with_hixl}), ExitedWithCode(0), "FAKE 2 x Ascend950PR_9599 by .*libacl_rt.so and .*libcann_hixl.so");
  ::setenv("ASCEND_RT_VISIBLE_DEVICES", "1", 1);
  EXPECT_EXIT(report({runtime, with_hixl}), ExitedWithCode(0), "FAKE 1 x ");
}

TEST_F(FindCann, tells_the_physical_numbers_of_devices) {
  const auto report_physical = [&] {
    const Result<Cann> cann = Cann::find({with_hixl, runtime}, true);
    std::cerr << "physical";
    for (std::int32_t i = 0; i < 4; ++i) std::cerr << " " << cann->physical_device(i);
    std::exit(0);  // NOLINT(concurrency-mt-unsafe): of a death test's child
  };
  ::setenv("FAKE_CANN_DEVICES", "8", 1);
  ::setenv("ASCEND_RT_VISIBLE_DEVICES", "2,3,5,7", 1);
  EXPECT_EXIT(report_physical(), ExitedWithCode(0), "physical 2 3 5 7");
  ::setenv("FAKE_CANN_BEFORE_92", "1", 1);  // the older entry alone
  EXPECT_EXIT(report_physical(), ExitedWithCode(0), "physical 2 3 5 7");
}

TEST_F(FindCann, says_that_no_device_is_visible) {
  ::setenv("ASCEND_RT_VISIBLE_DEVICES", "9", 1);
  EXPECT_EXIT(report({runtime, with_hixl}), ExitedWithCode(0), "not_available: .*sees no NPU.*ASCEND_RT_VISIBLE_DEVICES");
}

TEST_F(FindCann, passes_on_what_the_runtime_says) {
  ::setenv("FAKE_CANN_HIDE", "aclrtGetDeviceCount", 1);
  EXPECT_EXIT(report({runtime, with_hixl}), ExitedWithCode(0), "error 207000: FAKE CANN: aclrtGetDeviceCount is hidden");
}

TEST_F(FindCann, names_entries_that_a_runtime_lacks) {
  EXPECT_EXIT(report({FAKE_CANN_LIB "/empty_runtime"}), ExitedWithCode(0), "libacl_rt.so lacks aclInit, aclrtSetDevice, .*too old");
}

TEST(Places, follow_the_environment) {
  ::setenv("ASCEND_HOME_PATH", "/opt/cann", 1);
  ::setenv("ASCEND_TOOLKIT_HOME", "", 1);
  EXPECT_THAT(places_from_environment(),
              ElementsAre("", "/opt/cann/lib64", "/usr/local/Ascend/cann/lib64", "/usr/local/Ascend/ascend-toolkit/latest/lib64"));
  ::setenv("RAY_HIXL_CANN_PATH", "/mine:/yours", 1);
  EXPECT_THAT(places_from_environment(), ElementsAre("/mine", "/yours"));
  ::unsetenv("RAY_HIXL_CANN_PATH");
  ::unsetenv("ASCEND_HOME_PATH");
  ::unsetenv("ASCEND_TOOLKIT_HOME");
}

TEST_F(FindCann, is_done_once_for_a_process) {
  ::setenv("RAY_HIXL_CANN_PATH", "/nowhere", 1);
  const auto report_probe = [] {
    std::cerr << probe().to_string();
    ::unsetenv("RAY_HIXL_CANN_PATH");
    std::exit(probe().to_string().find("/nowhere/libascendcl.so") == std::string::npos ? 1 : 0);  // NOLINT(concurrency-mt-unsafe)
  };
  EXPECT_EXIT(report_probe(), ExitedWithCode(0), "not_available: .*/nowhere/libascendcl.so");
}

TEST_F(FindCann, does_not_survive_a_fork) {
  ::setenv("RAY_HIXL_CANN_PATH", (runtime + ":" + with_hixl).c_str(), 1);
  ::setenv("RAY_HIXL_ALLOW_FAKE_CANN", "1", 1);
  const auto in_parent_and_child = [] {
    std::cerr << "parent: " << probe().to_string();
    (void)test::in_child([] {
      std::cerr << ", child: " << probe().to_string();
      return true;
    });
    std::exit(0);  // NOLINT(concurrency-mt-unsafe): of a death test's child
  };
  EXPECT_EXIT(in_parent_and_child(), ExitedWithCode(0), "parent: ok, child: not_available: .*does not survive a fork");
  ::setenv("RAY_HIXL_CANN_PATH", "/nowhere", 1);  // and where there is none, the child may say so
  EXPECT_EXIT(in_parent_and_child(), ExitedWithCode(0), "child: not_available: .*/nowhere/libascendcl.so");
  ::unsetenv("RAY_HIXL_ALLOW_FAKE_CANN");
}

}  // namespace
}  // namespace ray_hixl::transport::hixl
