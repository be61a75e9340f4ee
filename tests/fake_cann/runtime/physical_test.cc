// Which NPU a user's number means. The visible devices are read once in a process: each case is a process of its own.
#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "runtime/acl.h"

namespace fake_cann {
namespace {

using testing::ElementsAre;
using testing::ExitedWithCode;

using ToPhysical = int (*)(std::int32_t, std::int32_t*);

// CANN before 9.2 does not have it: callers look it up.
ToPhysical newer_entry() { return reinterpret_cast<ToPhysical>(::dlsym(RTLD_DEFAULT, "aclrtGetPhyDevIdByUserDevId")); }

class PhysicalNumbers : public testing::Test {
 protected:
  PhysicalNumbers() {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    ::setenv("FAKE_CANN_DEVICES", "8", 1);
    ::setenv("ASCEND_RT_VISIBLE_DEVICES", "2,3,5,7", 1);
  }
  ~PhysicalNumbers() override {
    for (const char* name : {"FAKE_CANN_DEVICES", "ASCEND_RT_VISIBLE_DEVICES", "FAKE_CANN_BEFORE_92"}) ::unsetenv(name);
  }

  template <class Scenario>
  static void expect_well(const Scenario& scenario) {
    const auto run = [&] {
      scenario();
      ::_exit(HasFailure() ? 1 : 0);
    };
    EXPECT_EXIT(run(), ExitedWithCode(0), "");
  }
  static std::vector<int> all_by(ToPhysical entry) {
    std::vector<int> physical(4, -1);
    for (int user = 0; user < 4; ++user) EXPECT_EQ(entry(user, &physical[static_cast<std::size_t>(user)]), kOk);
    return physical;
  }
};

TEST_F(PhysicalNumbers, come_from_the_users_by_either_entry) {
  expect_well([] {
    ASSERT_NE(newer_entry(), nullptr);
    EXPECT_THAT(all_by(newer_entry()), ElementsAre(2, 3, 5, 7));
    EXPECT_THAT(all_by(aclrtGetPhyDevIdByLogicDevId), ElementsAre(2, 3, 5, 7)) << "whatever its name says";
    EXPECT_EQ(fake_cann_calls("aclrtGetPhyDevIdByUserDevId"), 4u);
  });
}

TEST_F(PhysicalNumbers, are_of_visible_devices_alone) {
  expect_well([] {
    int physical = -1;
    for (const int user : {-1, 4, 7}) {
      EXPECT_EQ(newer_entry()(user, &physical), kBadDevice) << user;
      EXPECT_EQ(aclrtGetPhyDevIdByLogicDevId(user, &physical), kBadDevice) << user;
    }
    EXPECT_EQ(physical, -1);
  });
}

TEST_F(PhysicalNumbers, come_by_one_entry_before_9_2) {
  ::setenv("FAKE_CANN_BEFORE_92", "1", 1);
  expect_well([] {
    EXPECT_EQ(newer_entry(), nullptr);
    EXPECT_THAT(all_by(aclrtGetPhyDevIdByLogicDevId), ElementsAre(2, 3, 5, 7));
  });
}

}  // namespace
}  // namespace fake_cann
