// Versions, settings and shortages: what works between which, and what is said where it does not. Readers and owners are processes with an
// environment of their own.
#include <filesystem>
#include <fstream>
#include <thread>

#include "transport/hixl/cann/start.h"
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

// A file with the addresses of the devices' network cards; another one in each process of tests that run side by side.
class HccnConf {
 public:
  explicit HccnConf(const std::string& name) : path_(testing::TempDir() + "hccn_" + std::to_string(::getpid()) + "_" + name + ".conf") {
    static int last = 0;
    const int pid = ::getpid();  // no other test that runs at this time has the same net
    const std::string net = "127." + std::to_string(192 + pid / 250 % 60) + "." + std::to_string(pid % 250) + ".";
    std::ofstream file(path_);
    for (int device = 0; device < 2; ++device) {
      addresses_.push_back(net + std::to_string(++last));
      file << "address_" << device << "=" << addresses_.back() << "\n";
    }
  }
  ~HccnConf() { std::filesystem::remove(path_); }
  HccnConf(const HccnConf&) = delete;
  HccnConf& operator=(const HccnConf&) = delete;
  [[nodiscard]] std::string setting() const { return "FAKE_HIXL_HCCN_CONF=" + path_; }
  [[nodiscard]] const std::string& address(std::size_t device) const { return addresses_.at(device); }

 private:
  const std::string path_;
  std::vector<std::string> addresses_;
};

const std::string k85 = "RAY_HIXL_CANN_PATH=" FAKE_CANN_LIB ":" FAKE_CANN_LIB "/hixl85";

PeerSetup with(std::vector<std::string> environment, std::vector<std::string> options = {}) {
  PeerSetup setup;
  setup.environment = std::move(environment);
  setup.options = std::move(options);
  return setup;
}

class HixlSetup : public testing::Test {
 protected:
  HixlSetup() { use_test_cann(); }
  void SetUp() override { need_fake_cann(); }  // of a version, on a chip, or in a trouble of one's choice
  // What a reader says that fetches an object of the owner's.
  static std::string fetch(PeerProcess& reader, PeerProcess& owner) {
    return reader.fetch(owner.publish({4096, 100, 3 * kMiB}, 1, SourceMemory::kDevice), 1);
  }
  const HccnConf conf{"one"};
  const HccnConf other_conf{"two"};
};

// ---- Versions.

class HixlFlavours : public HixlSetup, public testing::WithParamInterface<std::string> {};

TEST_P(HixlFlavours, work_and_recover) {
  PeerProcess owner(with({"FAKE_HIXL_FLAVOUR=" + GetParam()}));
  PeerProcess reader(with({"FAKE_HIXL_FLAVOUR=" + GetParam()}));
  EXPECT_EQ(fetch(reader, owner), "ok");
  reader.set_fake("FAKE_HIXL_FAIL_AT", "1:poll");
  EXPECT_EQ(fetch(reader, owner), "ok");
  EXPECT_EQ(reader.stat("retries"), 1u);
  EXPECT_EQ(reader.stat("connects"), 2u);
  EXPECT_EQ(reader.fake_count("GetTransferStatus"), 0u) << "polls for all at once";
}

INSTANTIATE_TEST_SUITE_P(Of, HixlFlavours, testing::Values("9.1", "9.2-beta.1", "9.2"), [](const auto& flavour) {
  std::string name = "v" + flavour.param;
  std::ranges::replace_if(name, [](char c) { return c == '.' || c == '-'; }, '_');
  return name;
});

// Its engine links two devices only, polls requests one by one, and takes memory it does not know for a broken link.
TEST_F(HixlSetup, cann_85_works_between_two_npus) {
  PeerProcess owner(with({k85, conf.setting()}));
  PeerProcess reader(with({k85, conf.setting(), "ASCEND_RT_VISIBLE_DEVICES=0"}));
  EXPECT_EQ(fetch(reader, owner), "ok");
  EXPECT_EQ(fetch(reader, owner), "ok");
  EXPECT_GT(reader.fake_count("GetTransferStatus"), 0u);
  reader.set_fake("FAKE_HIXL_FAIL_AT", "1:poll");
  EXPECT_EQ(fetch(reader, owner), "ok");
  reader.set_fake("FAKE_HIXL_FAIL_AT", "1:call:103900");
  EXPECT_EQ(fetch(reader, owner), "ok");
  reader.set_fake("FAKE_HIXL_DROP_LINK_AT", "1");
  EXPECT_EQ(fetch(reader, owner), "ok");
}

TEST_F(HixlSetup, cann_85_has_its_link_made_anew_for_new_memory) {
  PeerProcess owner(with({k85, conf.setting()}, {"slab_bytes=2097152"}));
  PeerProcess reader(with({k85, conf.setting(), "ASCEND_RT_VISIBLE_DEVICES=0"}, {"slab_bytes=2097152"}));
  for (const std::uint64_t size : {1, 3, 7, 15}) {
    EXPECT_EQ(reader.fetch(owner.publish({size * kMiB}, size, SourceMemory::kDevice), size), "ok");
  }
}

TEST_F(HixlSetup, cann_85_is_refused_between_processes_of_one_npu) {
  PeerProcess owner(with({k85, conf.setting()}));
  PeerProcess reader(with({k85, other_conf.setting()}));
  const std::string said = fetch(reader, owner);
  EXPECT_THAT(said, AllOf(StartsWith("not_available"), HasSubstr("both processes use NPU 1"), HasSubstr("CANN 9.1 can")));
}

TEST_F(HixlSetup, different_versions_are_refused) {
  PeerProcess owner(with({k85, conf.setting()}));
  PeerProcess reader(with({conf.setting()}));
  EXPECT_THAT(fetch(reader, owner), AllOf(StartsWith("not_available"), HasSubstr("'hixl_cs"), HasSubstr("'comm")));
}

TEST_F(HixlSetup, different_settings_are_refused) {
  PeerProcess owner(with({"HCCL_INTRA_ROCE_ENABLE=1"}));
  PeerProcess reader;
  const std::string said = fetch(reader, owner);
  EXPECT_THAT(said, AllOf(StartsWith("not_available"), HasSubstr("here 'hixl_cs HCCL_INTRA_ROCE_ENABLE=0 "),
                          HasSubstr("there 'hixl_cs HCCL_INTRA_ROCE_ENABLE=1 ")));
  EXPECT_EQ(reader.fake_count("Connect"), 0u) << "HIXL would have answered with a timeout";
}

TEST_F(HixlSetup, settings_that_mean_the_same_to_hixl_fit) {
  PeerProcess reader;
  for (const std::string setting : {"HCCL_INTRA_ROCE_ENABLE=0", "HCCL_INTRA_ROCE_ENABLE=true", "HCCL_INTRA_PCIE_ENABLE=1"}) {
    PeerProcess owner(with({setting}));
    EXPECT_EQ(fetch(reader, owner), "ok") << setting;
  }
}

TEST_F(HixlSetup, different_releases_are_refused) {
  PeerProcess owner(with({"FAKE_HIXL_FLAVOUR=9.2-beta.1"}));
  PeerProcess reader;
  EXPECT_THAT(fetch(reader, owner),
              AllOf(StartsWith("not_available"), HasSubstr("HIXL FAKE 9.2.0'"), HasSubstr("HIXL FAKE 9.2.0-beta.1'")));
  EXPECT_EQ(reader.fake_count("Connect"), 0u) << "HIXL would have answered with a timeout";
}

TEST(HixlFingerprint, agrees_with_one_of_a_version_that_nobody_could_tell) {
  using transport::hixl::agree;
  EXPECT_TRUE(agree("comm A=1 HIXL 9.1.0", "comm A=1 HIXL 9.1.0"));
  EXPECT_FALSE(agree("comm A=1 HIXL 9.1.0", "comm A=1 HIXL 9.2.0"));
  EXPECT_TRUE(agree("comm A=1 HIXL 9.1.0", "comm A=1 HIXL unknown"));
  EXPECT_TRUE(agree("comm A=1 HIXL unknown", "comm A=1 HIXL 9.1.0"));
  EXPECT_FALSE(agree("comm A=1 HIXL unknown", "comm A=0 HIXL 9.1.0"));
  EXPECT_FALSE(agree("comm A=1 HIXL 9.1.0", ""));
}

// ---- Two processes on one NPU. Over HCCS the FAKE refuses each connect with 503900, and the real HIXL may do anything.

struct Together {
  const char* name;
  const char* soc;
  std::vector<std::string> environment;
  std::vector<std::string> options;
};

class HixlOnOneNpu : public HixlSetup, public testing::WithParamInterface<Together> {
 protected:
  [[nodiscard]] PeerSetup setup(std::vector<std::string> more = {}) const {
    more.insert(more.end(), GetParam().environment.begin(), GetParam().environment.end());
    more.push_back(std::string("FAKE_CANN_SOC=") + GetParam().soc);
    more.push_back(conf.setting());
    return with(more, GetParam().options);
  }
};

std::string name_of(const testing::TestParamInfo<Together>& info) { return info.param.name; }

// Endpoints that a caller lists.
std::string listed(const std::string& protocols) {
  std::string list;
  for (const char* each : {"roce", "hccs"}) {
    if (protocols.find(each) == std::string::npos) continue;
    list += std::string(list.empty() ? "" : ",") + R"({"protocol":")" + each + R"(","placement":"device","comm_id":")" +
            (std::string(each) == "hccs" ? "1" : "10.0.0.1") + R"("})";
  }
  return R"(hixl_local_comm_res={"version":"1.3","net_instance_id":"x","endpoint_list":[)" + list + "]}";
}

class HixlOnOneNpuOverHccs : public HixlOnOneNpu {};

TEST_P(HixlOnOneNpuOverHccs, is_refused_before_a_connect_with_what_to_do) {
  PeerProcess owner(setup());
  PeerProcess reader(setup());
  EXPECT_THAT(fetch(reader, owner), AllOf(StartsWith("not_available"), HasSubstr("both processes use NPU 1"),
                                          HasSubstr("set HCCL_INTRA_ROCE_ENABLE=1 in every process")));
  EXPECT_EQ(reader.fake_count("Connect"), 0u);
  PeerProcess elsewhere(setup({"ASCEND_RT_VISIBLE_DEVICES=0"}));
  EXPECT_EQ(fetch(elsewhere, owner), "ok");
}

INSTANTIATE_TEST_SUITE_P(As, HixlOnOneNpuOverHccs,
                         testing::Values(Together{"A2", "Ascend910B3", {}, {}}, Together{"A3", "Ascend910_9391", {}, {}},
                                         Together{"another_word", "Ascend910B3", {"HCCL_INTRA_ROCE_ENABLE=true"}, {}},
                                         Together{"described", "Ascend910B3", {}, {"hixl_protocol_desc=roce:device,hccs:device"}},
                                         Together{"listed", "Ascend910B3", {}, {listed("roce hccs")}}),
                         name_of);

class HixlOnOneNpuOverAnother : public HixlOnOneNpu {};

TEST_P(HixlOnOneNpuOverAnother, is_linked) {
  PeerProcess owner(setup());
  PeerProcess reader(setup());
  EXPECT_EQ(fetch(reader, owner), "ok");
}

INSTANTIATE_TEST_SUITE_P(As, HixlOnOneNpuOverAnother,
                         testing::Values(Together{"A2_over_RoCE", "Ascend910B3", {"HCCL_INTRA_ROCE_ENABLE=1"}, {}},
                                         Together{"A3_over_RoCE", "Ascend910_9391", {"HCCL_INTRA_ROCE_ENABLE=1"}, {}},
                                         Together{"described", "Ascend910B3", {}, {"hixl_protocol_desc=roce:device"}},
                                         Together{"listed", "Ascend910B3", {}, {listed("roce")}},
                                         Together{"Ascend950", "Ascend950PR_9599", {}, {}}),
                         name_of);

// ---- Starting.

TEST_F(HixlSetup, a_missing_hccn_conf_is_named) {
  PeerProcess owner(with({"FAKE_CANN_SOC=Ascend910B3", "FAKE_HIXL_HCCN_CONF=/nowhere/hccn.conf"}));
  PeerProcess reader;
  const std::string said = fetch(reader, owner);
  EXPECT_THAT(said, AllOf(StartsWith("not_available"), HasSubstr("its source could not publish it"), HasSubstr("cannot use npu:1"),
                          HasSubstr("FAILED (503900)"), HasSubstr("/nowhere/hccn.conf"), HasSubstr("/etc/hccn.conf")));
}

// HIXL would keep 16 slots of the device for each of them.
TEST_F(HixlSetup, busy_ports_are_not_tried) {
  const auto [first, second] = take_two_ports();
  const std::string range = std::to_string(first.port()) + "-" + std::to_string(second.port());
  PeerProcess owner(with({}, {"hixl_ports=" + range}));
  PeerProcess reader;
  EXPECT_THAT(fetch(reader, owner), AllOf(StartsWith("not_available"), HasSubstr("HIXL does not start: no port of 127.0.0.1"),
                                          HasSubstr(range), HasSubstr("widen or move hixl_ports")));
  EXPECT_EQ(owner.fake_count("Initialize"), 0u);
}

// Nobody can look at those of the device's NIC.
TEST_F(HixlSetup, busy_ports_of_the_nic_are_tried_four_times) {
  const PortRange ports = two_free_ports();
  const TakenPort first(ports.first, conf.address(1));
  const TakenPort second(ports.last, conf.address(1));
  ASSERT_TRUE(first.is_taken() && second.is_taken());
  PeerProcess owner(with({conf.setting()}, {"hixl_ports=" + std::to_string(ports.first) + "-" + std::to_string(ports.last)}));
  PeerProcess reader;
  const std::string said = fetch(reader, owner);
  EXPECT_THAT(said, AllOf(StartsWith("not_available"), HasSubstr("FAILED (503900)"), HasSubstr("network card is taken"),
                          HasSubstr("widen or move hixl_ports"), Not(HasSubstr("npu-smi"))));
  std::size_t tries = 0;
  for (std::size_t at = said.find("(NIC port "); at != std::string::npos; at = said.find("(NIC port ", at + 1)) ++tries;
  EXPECT_EQ(tries, 4u);
  EXPECT_EQ(owner.fake_count("Initialize"), 4u);
  EXPECT_EQ(owner.fake_count("live_engines"), 0u);
}

TEST_F(HixlSetup, a_start_that_fails_for_what_nobody_names_is_tried_again) {
  PeerProcess owner(with({"FAKE_HIXL_FAIL_INITIALIZE=strange:3"}));
  PeerProcess reader;
  EXPECT_EQ(fetch(reader, owner), "ok");
  EXPECT_EQ(owner.fake_count("Initialize"), 4u);
}

struct FailingStart {
  std::string cause;
  std::string hint;
};

class HixlFailingStart : public HixlSetup, public testing::WithParamInterface<FailingStart> {};

TEST_P(HixlFailingStart, is_not_tried_on_other_ports) {
  PeerProcess owner(with({"FAKE_HIXL_FAIL_INITIALIZE=" + GetParam().cause}));
  PeerProcess reader;
  EXPECT_THAT(fetch(reader, owner),
              AllOf(StartsWith("not_available"), HasSubstr("FAILED (503900): "), HasSubstr(GetParam().hint), Not(HasSubstr("hixl_ports"))));
  EXPECT_EQ(owner.fake_count("Initialize"), 1u);
}

INSTANTIATE_TEST_SUITE_P(For, HixlFailingStart,
                         testing::Values(FailingStart{"device_ip", "hccn_tool -i N -ip -s"},
                                         FailingStart{"kernel", "found by ASCEND_HOME_PATH"}, FailingStart{"stream", "npu-smi info"},
                                         FailingStart{"endpoint", "npu-smi info"}),
                         [](const auto& start) { return start.param.cause; });

TEST_F(HixlSetup, one_free_port_among_busy_ones_is_found) {
  auto [first, second] = take_two_ports();
  const std::string range = std::to_string(first.port()) + "-" + std::to_string(second.port());
  { const TakenPort freed = std::move(second); }
  PeerProcess owner(with({}, {"hixl_ports=" + range}));
  PeerProcess reader;
  EXPECT_EQ(fetch(reader, owner), "ok");
  EXPECT_EQ(owner.hixl_name(), "127.0.0.1:" + std::to_string(first.port() + 1));
}

TEST_F(HixlSetup, a_start_that_failed_is_tried_again_at_the_next_use) {
  auto [first, second] = take_two_ports();
  const std::string range = std::to_string(first.port()) + "-" + std::to_string(second.port());
  PeerProcess owner(with({}, {"hixl_ports=" + range}));
  PeerProcess reader;
  EXPECT_THAT(fetch(reader, owner), StartsWith("not_available"));
  { const TakenPort freed = std::move(first); }
  EXPECT_EQ(fetch(reader, owner), "ok");
}

// ---- A port of the NIC that HIXL takes late: nothing fails where it starts, and then every connect does.

class HixlLatePort : public HixlSetup {
 protected:
  // An owner whose ports of the NIC are all taken.
  [[nodiscard]] PeerSetup owner_of(std::vector<std::string> environment) const {
    environment.push_back(conf.setting());
    return with(std::move(environment), {"hixl_ports=" + std::to_string(ports.first) + "-" + std::to_string(ports.last)});
  }
  void free_ports() {
    first.reset();
    last.reset();
  }
  const PortRange ports = two_free_ports();
  std::optional<TakenPort> first{std::in_place, ports.first, conf.address(1)};
  std::optional<TakenPort> last{std::in_place, ports.last, conf.address(1)};
};

const std::string k91 = "FAKE_HIXL_FLAVOUR=9.1";

TEST_F(HixlLatePort, that_is_taken_costs_a_new_engine_and_no_fetch) {
  PeerProcess owner(owner_of({k91}));
  PeerProcess reader(with({k91}));
  const Bytes object = owner.publish({4096, 100}, 1, SourceMemory::kDevice);
  const std::string at_first = owner.hixl_name();
  std::thread freeing([&] {
    EXPECT_TRUE(eventually([&] { return owner.fake_count("Initialize") >= 2; }));
    free_ports();
  });
  EXPECT_EQ(reader.fetch(object, 1), "ok");
  freeing.join();
  EXPECT_GE(owner.fake_count("Initialize"), 2u);
  EXPECT_EQ(owner.fake_count("live_engines"), 1u);
  const std::uint64_t engines = owner.fake_count("Initialize");
  PeerProcess another(with({k91}));
  EXPECT_EQ(another.fetch(object, 1), "ok") << "what was published is there";
  EXPECT_EQ(owner.fake_count("Initialize"), engines);
}

TEST_F(HixlLatePort, that_stays_taken_is_an_error_after_three_engines) {
  PeerProcess owner(owner_of({k91}));
  PeerProcess reader(with({k91}));
  for (int i = 0; i < 2; ++i)
    EXPECT_THAT(fetch(reader, owner),
                AllOf(StartsWith("connect_error"), HasSubstr("FAILED (503900)"), HasSubstr("widen or move its hixl_ports")));
  EXPECT_EQ(owner.fake_count("Initialize"), 4u);
}

TEST_F(HixlLatePort, is_not_why_a_reader_is_refused_where_another_one_is_linked) {
  free_ports();
  PeerProcess owner(owner_of({k91}));
  PeerProcess linked(with({k91}));
  PeerProcess refused(with({k91}));
  ASSERT_EQ(fetch(linked, owner), "ok");
  refused.set_fake("FAKE_HIXL_REFUSE_CONNECT", "3");
  EXPECT_THAT(fetch(refused, owner), AllOf(StartsWith("connect_error"), HasSubstr("FAILED (503900)")));
  EXPECT_EQ(owner.fake_count("Initialize"), 1u);
  EXPECT_EQ(fetch(refused, owner), "ok");
}

TEST_F(HixlLatePort, is_not_why_a_reader_is_refused_where_hixl_takes_it_at_the_start) {
  free_ports();
  PeerProcess owner(owner_of({}));
  PeerProcess reader;
  reader.set_fake("FAKE_HIXL_REFUSE_CONNECT", "3");
  EXPECT_THAT(fetch(reader, owner), StartsWith("connect_error"));
  EXPECT_EQ(owner.fake_count("Initialize"), 1u);
  EXPECT_EQ(fetch(reader, owner), "ok");
}

// ---- Options that are handed to HIXL.

TEST_F(HixlSetup, a_node_whose_nics_have_no_address_starts_with_hccs_alone) {
  const std::vector<std::string> node = {"FAKE_CANN_SOC=Ascend910B3", "FAKE_HIXL_HCCN_CONF=/nowhere/hccn.conf"};
  std::vector<std::string> other_npu = node;
  other_npu.emplace_back("ASCEND_RT_VISIBLE_DEVICES=0");
  {
    PeerProcess owner(with(node));
    PeerProcess reader(with(other_npu));
    EXPECT_THAT(fetch(reader, owner), AllOf(StartsWith("not_available"), HasSubstr("hixl_protocol_desc=hccs:device in every process")));
  }
  PeerProcess owner(with(node, {"hixl_protocol_desc=hccs:device"}));
  PeerProcess reader(with(other_npu, {"hixl_protocol_desc=hccs:device"}));
  EXPECT_EQ(fetch(reader, owner), "ok");
}

TEST_F(HixlSetup, different_endpoints_are_refused) {
  PeerProcess owner(with({}, {"hixl_protocol_desc=ub_ctp:device"}));
  PeerProcess reader;
  EXPECT_THAT(fetch(reader, owner), AllOf(StartsWith("not_available"), HasSubstr("here 'hixl_cs HCCL_INTRA_ROCE_ENABLE=0 HIXL "),
                                          HasSubstr("there 'hixl_cs HCCL_INTRA_ROCE_ENABLE=0 hixl_protocol_desc=ub_ctp:device HIXL ")));
  EXPECT_EQ(reader.fake_count("Connect"), 0u);
  PeerProcess alike(with({}, {"hixl_protocol_desc=ub_ctp:device"}));
  EXPECT_EQ(fetch(alike, owner), "ok");
}

TEST_F(HixlSetup, endpoints_that_an_npu_does_not_have_are_named) {
  PeerProcess owner(with({}, {"hixl_protocol_desc=roce:host"}));
  PeerProcess reader;
  EXPECT_THAT(fetch(reader, owner), AllOf(StartsWith("not_available"), HasSubstr("PARAM_INVALID (103900)"),
                                          HasSubstr("what hixl_protocol_desc and hixl_local_comm_res name"), Not(HasSubstr("hixl_ports"))));
  EXPECT_EQ(owner.fake_count("Initialize"), 1u);
}

TEST_F(HixlSetup, the_fingerprint_does_not_depend_on_the_order_of_endpoints) {
  using namespace transport::hixl;
  Options one;
  Options other;
  one.hixl_protocol_desc = {"roce:device", "hccs:device"};
  other.hixl_protocol_desc = {"hccs:device", "roce:device"};
  const Cann& cann = *Cann::get();
  EXPECT_EQ(fingerprint(cann, one), fingerprint(cann, other));
  EXPECT_NE(fingerprint(cann, one), fingerprint(cann, {}));
  EXPECT_LE(fingerprint(cann, one).size(), 1024u);
}

TEST_F(HixlSetup, local_comm_res_is_text_or_a_file) {
  const std::string path = testing::TempDir() + "comm_res_" + std::to_string(::getpid()) + ".json";
  std::ofstream(path) << "{ \"version\": \"1.3\",\n \"net_instance_id\": \"here\" }\n";
  PeerProcess owner(with({}, {"hixl_local_comm_res=" + path}));
  PeerProcess reader(with({}, {R"(hixl_local_comm_res={"version":"1.3","net_instance_id":"here"})"}));
  EXPECT_EQ(fetch(reader, owner), "ok");
  PeerProcess elsewhere;
  EXPECT_THAT(fetch(elsewhere, owner), StartsWith("connect_error")) << "HIXL has no way between these instances";
  std::ofstream(path) << R"({"version":"1.2"})";
  PeerProcess old(with({}, {"hixl_local_comm_res=" + path}));
  EXPECT_THAT(fetch(reader, old), AllOf(StartsWith("invalid_argument"), HasSubstr(path), HasSubstr("1.3")));
  std::filesystem::remove(path);
  PeerProcess none(with({}, {"hixl_local_comm_res=" + path}));
  EXPECT_THAT(fetch(reader, none), AllOf(StartsWith("invalid_argument"), HasSubstr(path), HasSubstr("cannot be read")));
}

TEST_F(HixlSetup, slots_are_as_many_as_asked_for) {
  PeerProcess owner;
  PeerProcess reader(with({}, {"hixl_max_active_channels=3"}));
  EXPECT_EQ(fetch(reader, owner), "ok");
  EXPECT_EQ(reader.fake_count("slots"), 3u);
  EXPECT_EQ(owner.fake_count("slots"), 16u);
}

// HIXL refuses what it does not know, in its options and in the environment where they say nothing.
TEST_F(HixlSetup, class_and_level_of_roce_come_before_the_environment) {
  PeerProcess owner;
  PeerProcess strange(with({"HCCL_RDMA_TC=133", "HCCL_RDMA_SL=9"}));
  EXPECT_THAT(fetch(strange, owner), AllOf(StartsWith("not_available"), HasSubstr("PARAM_INVALID (103900)")));
  PeerProcess told(with({"HCCL_RDMA_TC=133", "HCCL_RDMA_SL=9"}, {"hixl_traffic_class=132", "hixl_service_level=4"}));
  EXPECT_EQ(fetch(told, owner), "ok");
}

TEST_F(HixlSetup, endpoints_are_not_for_cann_85) {
  PeerProcess owner(with({k85, conf.setting()}, {"hixl_protocol_desc=hccs:device"}));
  PeerProcess reader(with({k85, conf.setting(), "ASCEND_RT_VISIBLE_DEVICES=0"}));
  EXPECT_THAT(fetch(reader, owner), AllOf(StartsWith("not_available"), HasSubstr("hixl_protocol_desc"), HasSubstr("CANN 9.1")));
}

// ---- Memory.

TEST_F(HixlSetup, too_little_device_memory_for_the_first_slab_is_named) {
  PeerProcess owner;
  PeerProcess reader(with({"FAKE_CANN_HBM_MB=32"}));
  EXPECT_THAT(fetch(reader, owner),
              AllOf(StartsWith("out_of_memory"), HasSubstr("64 MiB of npu:1"), HasSubstr("aclrtMalloc"), HasSubstr("slab_bytes")));
  EXPECT_EQ(reader.fake_count("live_engines"), 0u) << "half a start is taken back";
  EXPECT_EQ(reader.fake_count("live_blocks"), 0u);
}

TEST_F(HixlSetup, slabs_end_at_their_cap) {
  PeerProcess owner;
  PeerProcess reader(with({}, {"slab_bytes=2097152", "slab_cap_bytes=4194304"}));
  const Bytes small = owner.publish({kMiB}, 1, SourceMemory::kDevice);
  EXPECT_EQ(reader.fetch(small, 1), "ok");
  EXPECT_THAT(reader.fetch(owner.publish({8 * kMiB}, 2, SourceMemory::kDevice), 2),
              AllOf(StartsWith("out_of_memory"), HasSubstr("slab_cap_bytes")));
  EXPECT_EQ(reader.fetch(small, 1), "ok");
}

TEST_F(HixlSetup, an_object_without_room_at_its_owner_says_so_where_it_is_fetched) {
  PeerProcess owner(with({}, {"slab_bytes=2097152", "slab_cap_bytes=2097152"}));
  PeerProcess reader;
  EXPECT_THAT(reader.fetch(owner.publish({8 * kMiB}, 2, SourceMemory::kDevice), 2),
              AllOf(StartsWith("out_of_memory"), HasSubstr("its source could not publish it"), HasSubstr("slab_cap_bytes")));
  EXPECT_EQ(reader.fetch(owner.publish({kMiB}, 3, SourceMemory::kDevice), 3), "ok");
}

TEST_F(HixlSetup, slabs_are_laid_out_as_hccs_wants_it) {
  PeerProcess owner(with({"FAKE_HIXL_REQUIRE_ALIGNED=1"}));
  PeerProcess reader(with({"FAKE_HIXL_REQUIRE_ALIGNED=1"}));
  EXPECT_EQ(fetch(reader, owner), "ok");
  EXPECT_EQ(reader.fetch(owner.publish({80 * kMiB}, 3, SourceMemory::kDevice), 3), "ok") << "also those that came later";
}

class HixlAlignment : public HixlProcesses {};

TEST_F(HixlAlignment, of_registered_memory_is_asked_for_by_name) {
  const FakeSwitch strict("FAKE_HIXL_REQUIRE_ALIGNED", "1");
  const DeviceMemory memory = device_memory(4 * kMiB, kPeerDevice);
  MemoryRange part = memory.range;
  part.address += 4096;
  part.length = kMiB;
  const Status refused = (*consumer)->register_memory(part, false, memory.owner, part).status();
  EXPECT_THAT(refused, FailsWith(Code::kNotAvailable));
  EXPECT_THAT(refused.message(), AllOf(HasSubstr("PARAM_INVALID (103900)"), HasSubstr("multiple of 2 MiB")));
  EXPECT_FALSE((*consumer)->is_registered(part));
  const Result<Region> region = (*consumer)->register_memory(part, false, memory.owner);
  EXPECT_THAT(region.status(), IsOk()) << "as part of the whole allocation, which the runtime knows";
}

}  // namespace
}  // namespace ray_hixl::test
