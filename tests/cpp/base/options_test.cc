#include "ray_hixl/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

namespace ray_hixl {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Setting {
  std::string name;
  std::string text;
  Code code;
  std::string told;  // part of the message
};

class RefusedOption : public testing::TestWithParam<Setting> {};

TEST_P(RefusedOption, is_told_and_changes_nothing) {
  Options options;
  const Status status = set_option(options, GetParam().name, GetParam().text);
  EXPECT_EQ(status.code(), GetParam().code) << status.to_string();
  EXPECT_THAT(status.message(), HasSubstr(GetParam().told));
  EXPECT_EQ(options.transports, Options().transports);
  EXPECT_EQ(options.host, Options().host);
  EXPECT_EQ(options.copy_threads, 0u);
  EXPECT_EQ(options.transfer_timeout_s, 30.0);
}

INSTANTIATE_TEST_SUITE_P(
    Settings, RefusedOption,
    testing::Values(
        Setting{"no_such", "1", Code::kInvalidArgument, "there are transports, host"},
        Setting{"transports", "", Code::kInvalidArgument, "at least one"},
        Setting{"transports", "shm,smoke", Code::kInvalidArgument, "'smoke'"},
        Setting{"transports", "shm,shm", Code::kInvalidArgument, "each transport once"},
        Setting{"host", "localhost", Code::kInvalidArgument, "no name"}, Setting{"host", "0.0.0.0", Code::kInvalidArgument, "no wildcard"},
        Setting{"host", "::", Code::kInvalidArgument, "no wildcard"},
        Setting{"publish", "map", Code::kInvalidArgument, "'alias' or 'snapshot'"}, Setting{"fetch", "map", Code::kNotAvailable, "map"},
        Setting{"fetch", "magic", Code::kInvalidArgument, "'magic'"}, Setting{"copy_threads", "65", Code::kInvalidArgument, "from 0 to 64"},
        Setting{"copy_threads", "-1", Code::kInvalidArgument, "'-1'"}, Setting{"copy_threads", "2 ", Code::kInvalidArgument, "'2 '"},
        Setting{"source_arena_bytes", "1GiB", Code::kInvalidArgument, "whole number of bytes"},
        Setting{"landing_arena_bytes", "1.5", Code::kInvalidArgument, "whole number of bytes"},
        Setting{"connect_timeout_s", "0", Code::kInvalidArgument, "from 0.001"},
        Setting{"transfer_timeout_s", "-1", Code::kInvalidArgument, "from 0.001"},
        Setting{"stall_timeout_s", "nan", Code::kInvalidArgument, "from 0.001"},
        Setting{"stall_timeout_s", "86401", Code::kInvalidArgument, "to 86400"},
        Setting{"idle_timeout_s", "1e-9", Code::kInvalidArgument, "from 0.001"},
        Setting{"slab_bytes", "0", Code::kInvalidArgument, "above 0"},
        Setting{"slab_cap_bytes", "4 GiB", Code::kInvalidArgument, "whole number of bytes"},
        Setting{"landing_device", "npu:", Code::kInvalidArgument, "npu:<index>"},
        Setting{"landing_device", "npu:65536", Code::kInvalidArgument, "npu:<index>"},
        Setting{"landing_device", "cpu:0", Code::kInvalidArgument, "'cpu'"}, Setting{"hixl_ports", "80-90", Code::kInvalidArgument, "1024"},
        Setting{"hixl_ports", "2000", Code::kInvalidArgument, "first-last"},
        Setting{"hixl_ports", "2000-2000", Code::kInvalidArgument, "two ports"},
        Setting{"hixl_ports", "2000-70000", Code::kInvalidArgument, "65535"},
        Setting{"hixl_protocol_desc", "", Code::kInvalidArgument, "auto, or some of hccs:device"},
        Setting{"hixl_protocol_desc", "hccs", Code::kInvalidArgument, "'hccs'"},
        Setting{"hixl_protocol_desc", "auto,hccs:device", Code::kInvalidArgument, "'auto'"},
        Setting{"hixl_protocol_desc", "hccs:device,hccs:device", Code::kInvalidArgument, "once"},
        Setting{"hixl_protocol_desc", "uboe:device,ub_rtp:device", Code::kInvalidArgument, "one of"},
        Setting{"hixl_local_comm_res", "", Code::kInvalidArgument, "absolute path"},
        Setting{"hixl_local_comm_res", "comm_res.json", Code::kInvalidArgument, "absolute path"},
        Setting{"hixl_local_comm_res", R"({"version":"1.2"})", Code::kInvalidArgument, "version 1.3"},
        Setting{"hixl_max_active_channels", "0", Code::kInvalidArgument, "from 1 to 1024"},
        Setting{"hixl_max_links", "0", Code::kInvalidArgument, "from 1 to 4096"},
        Setting{"hixl_traffic_class", "130", Code::kInvalidArgument, "a multiple of 4"},
        Setting{"hixl_traffic_class", "256", Code::kInvalidArgument, "to 252"},
        Setting{"hixl_traffic_class", "", Code::kInvalidArgument, "auto"},
        Setting{"hixl_service_level", "8", Code::kInvalidArgument, "from 0 to 7"},
        Setting{"checksum", "true", Code::kNotAvailable, "checksum"}, Setting{"tls", "true", Code::kNotAvailable, "not encrypted"}),
    [](const auto& setting) { return setting.param.name + "_" + std::to_string(setting.index); });

TEST(Options, take_what_they_should) {
  Options options;
  EXPECT_TRUE(set_option(options, "transports", "stream,cma").is_ok());
  EXPECT_TRUE(set_option(options, "host", "::1").is_ok());
  EXPECT_TRUE(set_option(options, "copy_threads", "64").is_ok());
  EXPECT_TRUE(set_option(options, "source_arena_bytes", "0").is_ok());
  EXPECT_TRUE(set_option(options, "stall_timeout_s", "0.25").is_ok());
  EXPECT_TRUE(set_option(options, "idle_timeout_s", "0.001").is_ok());
  EXPECT_TRUE(set_option(options, "tls", "false").is_ok());
  EXPECT_TRUE(set_option(options, "transports", "stream,hixl").is_ok());
  EXPECT_TRUE(set_option(options, "slab_bytes", "8589934592").is_ok());
  EXPECT_TRUE(set_option(options, "hixl_ports", "21000-21009").is_ok());
  EXPECT_TRUE(set_option(options, "hixl_protocol_desc", "hccs:device,roce:device").is_ok());
  EXPECT_TRUE(set_option(options, "hixl_local_comm_res", "/etc/comm_res.json").is_ok());
  EXPECT_TRUE(set_option(options, "hixl_local_comm_res", "{ \"version\" : \"1.3\",\n \"endpoint_list\": [] }\n").is_ok());
  EXPECT_TRUE(set_option(options, "hixl_traffic_class", "252").is_ok());
  EXPECT_TRUE(set_option(options, "hixl_service_level", "0").is_ok());
  EXPECT_THAT(options.hixl_protocol_desc, ElementsAre("hccs:device", "roce:device"));
  EXPECT_EQ(options.hixl_traffic_class, 252u);
  EXPECT_EQ(options.hixl_service_level, 0u);
  EXPECT_TRUE(set_option(options, "hixl_service_level", "auto").is_ok());
  EXPECT_FALSE(options.hixl_service_level);
  EXPECT_TRUE(set_option(options, "landing_device", "npu:15").is_ok());
  EXPECT_EQ(options.landing_device, "npu:15");
  EXPECT_TRUE(set_option(options, "landing_device", "cpu").is_ok());
  EXPECT_THAT(options.transports, ElementsAre("stream", "hixl"));
  EXPECT_EQ(options.slab_bytes, std::uint64_t{8} << 30);
  EXPECT_EQ(options.hixl_ports, (PortRange{21000, 21009}));
  EXPECT_EQ(options.host, "::1");
  EXPECT_EQ(options.copy_threads, 64u);
  EXPECT_EQ(options.source_arena_bytes, 0u);
  EXPECT_EQ(options.stall_timeout_s, 0.25);
}

TEST(Options, defaults_are_valid_and_each_is_described) {
  EXPECT_TRUE(validate(Options()).is_ok());
  EXPECT_GE(option_infos().size(), 15u);
  for (const OptionInfo& info : option_infos()) {
    EXPECT_FALSE(info.takes.empty()) << info.name;
    EXPECT_FALSE(info.text.empty()) << info.name;
    Options options;
    EXPECT_TRUE(set_option(options, info.name, info.by_default).is_ok()) << info.name << " does not take its own default";
  }
}

class Environment : public testing::Test {
 protected:
  ~Environment() override { ::unsetenv("RAY_HIXL_STALL_TIMEOUT_S"); }
};

TEST_F(Environment, overrides_defaults) {
  ::setenv("RAY_HIXL_STALL_TIMEOUT_S", "2.5", 1);
  const Result<Options> options = options_from_environment();
  ASSERT_TRUE(options.is_ok());
  EXPECT_EQ(options->stall_timeout_s, 2.5);
  EXPECT_EQ(options->connect_timeout_s, 10.0);
}

TEST_F(Environment, names_the_variable_that_is_wrong) {
  ::setenv("RAY_HIXL_STALL_TIMEOUT_S", "soon", 1);
  EXPECT_THAT(options_from_environment().status().message(), HasSubstr("RAY_HIXL_STALL_TIMEOUT_S: option stall_timeout_s"));
}

}  // namespace
}  // namespace ray_hixl
