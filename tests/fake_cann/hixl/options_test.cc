#include <cstdlib>
#include <fstream>

#include "hixl/support/fixture.h"

namespace fake_hixl::test {
namespace {

using testing::HasSubstr;

class InitializeOptions : public Engines {
 protected:
  // Initialises an engine that is only a client.
  hixl::Status with(const TestOptions& options) {
    hixl::Hixl engine;
    return initialize(engine, "127.0.0.1", options);
  }
  hixl::Status with_resources(const std::string& json) { return with({{"GlobalResourceConfig", json}}); }
};

TEST_F(InitializeOptions, are_those_that_are_known) {
  EXPECT_EQ(with({}), kSuccess);
  EXPECT_EQ(with({{"AutoConnect", "0"}, {"BufferPool", "0:0"}, {"LocalCommRes", R"({"version":"1.3"})"}}), kSuccess);
  EXPECT_EQ(with({{"adxl.BufferPool", "0:0"}, {"adxl.RdmaTrafficClass", "132"}}), kSuccess);
  for (const char* name : {"autoconnect", "adxl.AutoConnect", "EnableUseFabricMem ", ""}) {
    EXPECT_EQ(with({{name, "1"}}), hixl::kParamInvalid) << name;
  }
}

TEST_F(InitializeOptions, have_ranges) {
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"AutoConnect", ""},         {"AutoConnect", "yes"},       {"BufferPool", "4:8"},       {"RdmaTrafficClass", "133"},
      {"RdmaTrafficClass", "256"}, {"RdmaTrafficClass", "high"}, {"RdmaServiceLevel", "8"},   {"RdmaServiceLevel", "-1"},
      {"LocalCommRes", "1.3"},     {"LocalCommRes", "{"},        {"EnableUseFabricMem", "2"}, {"EnableUseFabricMem", "0"},
  };
  for (const auto& [name, value] : bad) EXPECT_EQ(with({{name, value}}), hixl::kParamInvalid) << name << "=" << value;
  EXPECT_EQ(with({{"RdmaTrafficClass", "0"}, {"RdmaServiceLevel", "7"}}), kSuccess);
  EXPECT_EQ(with({{"RdmaTrafficClass", "128"}, {"adxl.RdmaTrafficClass", "1"}}), kSuccess) << "the plain name wins";
}

TEST_F(InitializeOptions, come_from_the_environment_where_they_are_not_given) {
  const auto with_variable = [this](const char* name, const char* value, const TestOptions& options) {
    ::setenv(name, value, 1);
    const hixl::Status status = with(options);
    ::unsetenv(name);
    return status;
  };
  for (const auto& [name, option, bad, good] :
       {std::tuple{"HCCL_RDMA_TC", "RdmaTrafficClass", "133", "136"}, {"HCCL_RDMA_SL", "RdmaServiceLevel", "8", "7"}}) {
    EXPECT_EQ(with_variable(name, bad, {}), hixl::kParamInvalid) << name;
    EXPECT_EQ(with_variable(name, bad, {{option, ""}}), hixl::kParamInvalid) << name;
    EXPECT_EQ(with_variable(name, bad, {{option, "4"}}), kSuccess) << "which is looked at only then";
    EXPECT_EQ(with_variable(name, good, {}), kSuccess) << name;
  }
}

TEST_F(InitializeOptions, of_endpoints_are_checked) {
  const auto listed = [this](const std::string& items, const char* instance = R"("net_instance_id":"x",)") {
    return with({{"LocalCommRes", R"({"version":"1.3",)" + std::string(instance) + R"("endpoint_list":[)" + items + "]}"}});
  };
  const auto item = [](const char* protocol, const char* placement, const std::string& id) {
    return R"({"protocol":")" + std::string(protocol) + R"(","placement":")" + placement + R"(","comm_id":")" + id + R"("})";
  };
  const std::string eid(32, 'a');
  EXPECT_EQ(listed(item("roce", "device", "10.0.0.1") + "," + item("hccs", "device", "3")), kSuccess);
  EXPECT_EQ(listed(item("uboe", "device", "fe80::1") + "," + item("ub_ctp", "host", eid)), kSuccess);
  for (const std::string& bad :
       {item("roce", "device", "x"), item("roce", "device", ""), item("roce", "card", "10.0.0.1"), item("tcp", "host", "10.0.0.1"),
        item("hccs", "device", "10.0.0.1"), item("hccs", "device", "12345678901"), item("ub_ctp", "device", "10.0.0.1"),
        item("ub_rtp", "host", eid), std::string("{}"), item("ub_rtp", "device", eid) + "," + item("uboe", "device", "10.0.0.1")}) {
    EXPECT_EQ(listed(bad), hixl::kParamInvalid) << bad;
  }
  EXPECT_EQ(listed(item("roce", "device", "x"), ""), kSuccess) << "without the instance they are in they do not count";
}

TEST_F(InitializeOptions, of_resources_have_ranges) {
  EXPECT_EQ(with_resources(R"({"comm_resource_config.max_active_channels":16,"comm_resource_config.qos":"7",
                               "connect_pool.thread_num":64,"comm_resource_config.protocol_desc":["ub_ctp:device","roce:device"],
                               "fabric_memory.enable_aicpu_unfold":false,"channel_pool.max_channel":512})"),
            kSuccess);
  for (const char* json : {
           "[]",
           "{",
           R"({"comm_resource_config.listen_port":0})",
           R"({"comm_resource_config.listen_port":65536})",
           R"({"comm_resource_config.listen_port":"1x"})",
           R"({"comm_resource_config.max_active_channels":0})",
           R"({"comm_resource_config.max_active_channels":8193})",
           R"({"comm_resource_config.protocol_desc":""})",
           R"({"comm_resource_config.protocol_desc":["roce"]})",
           R"({"comm_resource_config.qos":8})",
           R"({"connect_pool.thread_num":65})",
           R"({"connect_pool.task_queue_capacity":0})",
           R"({"comm_resource_config.protocol_desc":"tcp:host"})",
           R"({"comm_resource_config.protocol_desc":["uboe:device","ub_rtp:device"]})",
           R"({"comm_resource_config.protocol_desc":"hccs:device"})",
           R"({"channel_pool.max_channel":513})",
           R"({"channel_pool.high_waterline":0.5})",
           R"({"channel_pool.high_waterline":1.5,"channel_pool.low_waterline":0.1})",
           R"({"fabric_memory.task_stream_num":9})",
           R"({"comm_resource_config":{"listen_port":1}})",
           R"({"comm_resource_config.listen_prot":20001})",
       }) {
    EXPECT_EQ(with_resources(json), hixl::kParamInvalid) << json;
  }
}

TEST_F(InitializeOptions, of_endpoints_can_be_in_a_file) {
  const std::string path = testing::TempDir() + "fake_hixl_" + std::to_string(::getpid());
  const std::string json = R"({"local_comm_res_path":")" + path + R"("})";
  EXPECT_EQ(with_resources(json), hixl::kParamInvalid) << "there is no such file";
  std::ofstream(path) << R"({"version":"1.3"})";
  EXPECT_EQ(with_resources(json), kSuccess);
  EXPECT_EQ(with({{"GlobalResourceConfig", json}, {"LocalCommRes", R"({"version":"1.3"})"}}), hixl::kParamInvalid);
  std::ofstream(path) << "";
  EXPECT_EQ(with_resources(json), hixl::kParamInvalid);
  std::remove(path.c_str());
}

TEST_F(InitializeOptions, choose_the_endpoints_that_links_need) {
  const auto on = [](const char* protocol) {
    return R"({"version":"1.3","net_instance_id":"x","endpoint_list":[{"protocol":")" + std::string(protocol) +
           R"(","placement":"device","comm_id":"127.0.0.1"}]})";
  };
  ASSERT_EQ(peer_.open({{"LocalCommRes", on("roce")}}), kSuccess);
  theirs_ = peer_.add_region(kMemDevice, kSize, kTheirs);
  open_here({{"LocalCommRes", on("roce")}});
  EXPECT_EQ(connect(), kSuccess);
  EXPECT_EQ(read(), kSuccess);
  hixl::Hixl other;
  EXPECT_EQ(initialize(other, "127.0.0.1", {{"LocalCommRes", on("uboe")}}), kSuccess);
  EXPECT_EQ(other.Connect(peer_.name().c_str()), hixl::kParamInvalid) << "nothing fits";
}

TEST_F(InitializeOptions, may_ask_for_what_the_fake_does_not_model) {
  EXPECT_EQ(with({{"EnableUseFabricMem", "1"}}), hixl::kUnsupported);
  EXPECT_THAT(recent_error(), HasSubstr("the fake does not model FabricMem"));
}

TEST_F(InitializeOptions, may_fail_and_be_tried_again) {
  EXPECT_EQ(initialize(engine_, "127.0.0.1", {{"x", "y"}}), hixl::kParamInvalid);
  EXPECT_EQ(initialize(engine_, "127.0.0.1"), kSuccess);
}

TEST_F(InitializeOptions, need_a_context) {
  hixl::Status status = kSuccess;
  std::thread([&] {
    hixl::Hixl engine;
    status = initialize(engine, "127.0.0.1");
  }).join();
  EXPECT_EQ(status, 107002u);
}

TEST_F(InitializeOptions, may_give_a_port_of_the_network_card) {
  TestOptions options;
  do {
    engine_.Finalize();
    peer_.finalize();
    options["GlobalResourceConfig"] = R"({"comm_resource_config.listen_port":)" + some_name().substr(10) + "}";
  } while (initialize(engine_, "127.0.0.1", options) != kSuccess || peer_.open(options, "127.0.0.1") != kSuccess);
  EXPECT_EQ(with(options), hixl::kFailed) << "the other device has its own card, but this engine shares one";
  EXPECT_THAT(recent_error(), HasSubstr("network card is taken"));
  PeerProcess same(0);
  EXPECT_EQ(same.open(options, "127.0.0.1"), hixl::kFailed) << "in another process as well";
}

}  // namespace
}  // namespace fake_hixl::test
