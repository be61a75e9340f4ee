// Engines on Ascend910. The name of the chip is read once in a process: each scenario is a process of its own.
#pragma once

#include <cstdlib>
#include <fstream>
#include <random>

#include "hixl/support/fixture.h"

namespace fake_hixl::test {

using testing::ExitedWithCode;

// An hccn.conf with addresses that nobody else uses, so that tests can run at once with the default port.
struct Ascend910 {
  Ascend910() {
    std::random_device random;
    std::ofstream file(path);
    for (int device = 0; device < 2; ++device) {
      file << "address_" << device << "=127.66." << random() % 256 << "." << 1 + random() % 254 << "\nnetmask_" << device << "=255.0.0.0\n";
    }
    ::setenv("FAKE_HIXL_HCCN_CONF", path.c_str(), 1);
    ::setenv("FAKE_CANN_SOC", "Ascend910B3", 0);
  }
  ~Ascend910() {
    std::remove(path.c_str());
    ::unsetenv("FAKE_HIXL_HCCN_CONF");
    ::unsetenv("FAKE_CANN_SOC");
    ::unsetenv("HCCL_INTRA_ROCE_ENABLE");
  }
  const std::string path = testing::TempDir() + "fake_hixl_hccn_" + std::to_string(::getpid());
};

class Chips : protected Ascend910, public Engines {
 protected:
  static TestOptions hixl_engine(const std::string& resources = "{}") {
    return {{"LocalCommRes", R"({"version":"1.3"})"}, {"GlobalResourceConfig", resources}};
  }
  static TestOptions comm_engine() { return {{"BufferPool", "0:0"}}; }

  template <class Scenario>
  void expect_well(const Scenario& scenario) {
    const auto run = [&] {
      scenario();
      std::remove(path.c_str());  // nothing is destroyed
      ::_exit(HasFailure() ? 1 : 0);
    };
    EXPECT_EXIT(run(), ExitedWithCode(0), "");
  }
};

struct A3 {
  A3() { ::setenv("FAKE_CANN_SOC", "Ascend910_9382", 1); }
};

}  // namespace fake_hixl::test
