#include "transport/hixl/cann/cause.h"

#include <gtest/gtest.h>

namespace ray_hixl::transport::hixl {
namespace {

TEST(Cause, is_told_apart_by_what_the_runtime_says) {
  const auto of = [](const char* said) { return cause_of({kFailed, std::string(": ") + said}); };
  EXPECT_EQ(of("Bind failed: Address already in use"), Cause::kPort);
  EXPECT_EQ(of("port 16666 of the device's network card is taken"), Cause::kPort);
  EXPECT_EQ(of("no device ip in /etc/hccn.conf"), Cause::kNoDeviceIp);
  EXPECT_EQ(of("the AICPU kernel cannot be loaded"), Cause::kKernels);
  EXPECT_EQ(of("ibv_cmd_create_cq failed, 12"), Cause::kResources);
  EXPECT_EQ(of("out of memory"), Cause::kResources);
  EXPECT_EQ(of("Connect to 1.2.3.4:5: Connection refused"), Cause::kAbsent);
  EXPECT_EQ(of("the peer is not there"), Cause::kAbsent);
  EXPECT_EQ(of("something else"), Cause::kUnknown);
  EXPECT_EQ(cause_of({kFailed, ""}), Cause::kUnknown);
}

TEST(Cause, is_in_the_code_of_some) {
  EXPECT_EQ(cause_of({207001, ""}), Cause::kResources);
  EXPECT_EQ(cause_of({kTimeout, ": cannot listen"}), Cause::kUnknown);
}

}  // namespace
}  // namespace ray_hixl::transport::hixl
