// What ray-hixl takes for granted of HIXL (its engine with strict regions), at the level of its own binding: the FAKE HIXL's behaviour, or
// a real one's.
//
//   RAY_HIXL_TEST_CANN=<folder>[:<folder>]  real libraries; tests that need the FAKE's switches are skipped then
//   RAY_HIXL_TEST_DEVICES=0,1               of the reader here and of the owner in a process of its own
//   RAY_HIXL_HOST=<ip of the host>          not loopback on A2
#include <thread>

#include "support/engines.h"
#include "support/eventually.h"
#include "support/line_process.h"
#include "support/raw_hixl.h"
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

using namespace transport::hixl;
using testing::AnyOf;

constexpr std::int32_t kTimeoutMs = 5000;

class HixlContract : public testing::Test {
 protected:
  HixlContract() {
    use_test_cann();
    reader.emplace(test_devices().first);
    owner.emplace(HELPER_hixl_peer, std::vector<std::string>{std::to_string(test_devices().second)}, std::vector<std::string>{});
  }
  void SetUp() override {
    ASSERT_TRUE(Cann::get()->client_server) << "this version of CANN has only the communicator engine, whose rules are others";
    ASSERT_EQ(reader->failure(), "");
    name = owner->ask("name");
    ASSERT_NE(name.find(':'), std::string::npos) << name;
  }

  // Memory of the owner, and of the reader here; registered.
  std::uintptr_t there(std::uint64_t bytes, std::uint64_t seed) {
    const std::uintptr_t address = allocate_there(bytes, seed);
    EXPECT_EQ(register_there(address, bytes), kHixlOk);
    return address;
  }
  std::uintptr_t allocate_there(std::uint64_t bytes, std::uint64_t seed) {
    return std::stoull(owner->ask("allocate " + std::to_string(bytes) + " " + std::to_string(seed)));
  }
  HixlCode register_there(std::uintptr_t address, std::uint64_t bytes) {
    return code(owner->ask("register " + std::to_string(address) + " " + std::to_string(bytes)));
  }
  MemoryRange here(std::uint64_t bytes, std::uint64_t seed = 99) {
    const MemoryRange range = reader->allocate(bytes, seed);
    void* handle = nullptr;
    EXPECT_EQ((*reader)->register_device_memory(address_of(range), bytes, handle).code, kHixlOk);
    return range;
  }
  static std::uintptr_t address_of(const MemoryRange& range) { return reinterpret_cast<std::uintptr_t>(range.address); }
  static HixlCode code(const std::string& text) { return static_cast<HixlCode>(std::stoul(text)); }

  HixlCode connect() { return (*reader)->connect(Text(name), kTimeoutMs).code; }
  HixlCode disconnect() { return (*reader)->disconnect(Text(name), kTimeoutMs).code; }
  HixlCode begin(const std::vector<OpDesc>& ops, void*& request, std::uint64_t id = 1) {
    return (*reader)->read_async(Text(name), ops, id, request).code;
  }
  // The end of a request, by polling: (code, status).
  std::pair<HixlCode, std::int32_t> end_of(void* request) {
    std::pair<HixlCode, std::int32_t> end{kHixlOk, kWaiting};
    EXPECT_TRUE(eventually(
        [&] {
          end.first = (*reader)->poll(request, end.second).code;
          return end.first != kHixlOk || end.second != kWaiting;
        },
        60s));
    return end;
  }
  // The code of a whole read; a request that fails gives kFailed.
  HixlCode read(const std::vector<OpDesc>& ops) {
    void* request = nullptr;
    if (const HixlCode called = begin(ops, request); called != kHixlOk) return called;
    const auto [polled, status] = end_of(request);
    return polled != kHixlOk ? polled : status == kCompleted ? kHixlOk : kFailed;
  }

  std::optional<RawHixl> reader;
  std::optional<LineProcess> owner;
  std::string name;
};

TEST_F(HixlContract, does_not_connect_to_its_own_name) {
  EXPECT_EQ((*reader)->connect(Text(reader->name()), kTimeoutMs).code, kParamInvalid);
}

TEST_F(HixlContract, knows_a_link_by_its_name_alive_or_dead) {
  EXPECT_EQ(connect(), kHixlOk);
  EXPECT_EQ(connect(), kAlreadyConnected);
  owner->kill();
  EXPECT_EQ(connect(), kAlreadyConnected) << "it does not look whether it is alive";
  EXPECT_EQ(disconnect(), kHixlOk);
  EXPECT_THAT(connect(), AnyOf(kFailed, kTimeout));
}

TEST_F(HixlContract, does_not_disconnect_what_is_not_connected) {
  EXPECT_EQ(disconnect(), kNotConnected);
  EXPECT_EQ(connect(), kHixlOk);
  EXPECT_EQ(disconnect(), kHixlOk);
  EXPECT_EQ(disconnect(), kNotConnected);
}

TEST_F(HixlContract, reads_only_over_a_link) {
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  EXPECT_EQ(read({{address_of(local), remote, 100}}), kNotConnected);
  EXPECT_EQ(connect(), kHixlOk);
  EXPECT_EQ(read({{address_of(local), remote, 100}}), kHixlOk);
}

TEST_F(HixlContract, reads_many_descriptors_in_one_call) {
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  std::vector<OpDesc> ops;
  for (std::uint64_t i = 0; i < 300; ++i) ops.push_back({address_of(local) + i * 1024, remote + (299 - i) * 1024, 1000});
  ASSERT_EQ(read(ops), kHixlOk);
  for (std::uint64_t i = 0; i < 300; ++i) {
    const MemoryRange piece{local.address + i * 1024, 1000, local.kind, local.device};
    EXPECT_TRUE(holds_pattern(piece, 1, (299 - i) * 1024));
    const MemoryRange between{local.address + i * 1024 + 1000, 24, local.kind, local.device};
    EXPECT_TRUE(holds_pattern(between, 99, i * 1024 + 1000));
  }
}

TEST_F(HixlContract, does_not_see_memory_that_was_registered_after_the_connect) {
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  const std::uintptr_t late_remote = there(kHugePage, 2);
  const MemoryRange late_local = here(kHugePage);
  EXPECT_EQ(read({{address_of(local), late_remote, 100}}), kParamInvalid);
  EXPECT_EQ(read({{address_of(late_local), remote, 100}}), kParamInvalid);
  EXPECT_EQ(read({{address_of(local), remote, 100}}), kHixlOk) << "the link is as good as before";
  ASSERT_EQ(disconnect(), kHixlOk);
  ASSERT_EQ(connect(), kHixlOk);
  EXPECT_EQ(read({{address_of(late_local), late_remote, 100}}), kHixlOk);
  EXPECT_TRUE(holds_pattern(MemoryRange{late_local.address, 100, late_local.kind, late_local.device}, 2));
}

TEST_F(HixlContract, checks_ranges) {
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  EXPECT_EQ(read({{address_of(local), remote + kHugePage - 50, 100}}), kParamInvalid);
  EXPECT_EQ(read({{address_of(local) + kHugePage - 50, remote, 100}}), kParamInvalid);
  EXPECT_EQ(read({{address_of(local), remote, 0}}), kParamInvalid);
  EXPECT_EQ(read({{0, remote, 100}}), kParamInvalid);
  EXPECT_EQ(read({{address_of(local), 0, 100}}), kParamInvalid);
  EXPECT_EQ(read({}), kParamInvalid);
  EXPECT_EQ(read({{address_of(local), remote, 100}}), kHixlOk);
}

TEST_F(HixlContract, lets_a_descriptor_span_touching_regions) {
  const std::uintptr_t remote = allocate_there(2 * kHugePage, 1);
  ASSERT_EQ(register_there(remote, kHugePage), kHixlOk);
  ASSERT_EQ(register_there(remote + kHugePage, kHugePage), kHixlOk);
  const MemoryRange local = here(2 * kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  EXPECT_EQ(read({{address_of(local), remote + kHugePage - 50, 100}}), kHixlOk);
}

TEST_F(HixlContract, registers_the_same_memory_once) {
  const MemoryRange local = reader->allocate(kHugePage, 99);
  void* first = nullptr;
  void* second = nullptr;
  ASSERT_EQ((*reader)->register_device_memory(address_of(local), kHugePage, first).code, kHixlOk);
  EXPECT_EQ((*reader)->register_device_memory(address_of(local), kHugePage, second).code, kHixlOk);
  EXPECT_EQ(first, second);
  EXPECT_EQ((*reader)->deregister_memory(first).code, kHixlOk);
  const std::uintptr_t remote = there(kHugePage, 1);
  ASSERT_EQ(connect(), kHixlOk);
  EXPECT_EQ(read({{address_of(local), remote, 100}}), kParamInvalid) << "for both";
}

TEST_F(HixlContract, refuses_memory_that_overlaps_in_part) {
  const MemoryRange local = reader->allocate(2 * kHugePage, 99);
  void* handle = nullptr;
  ASSERT_EQ((*reader)->register_device_memory(address_of(local), kHugePage, handle).code, kHixlOk);
  EXPECT_EQ((*reader)->register_device_memory(address_of(local), 2 * kHugePage, handle).code, kParamInvalid);
  EXPECT_EQ((*reader)->register_device_memory(address_of(local) + kHugePage / 2, kHugePage, handle).code, kParamInvalid);
  EXPECT_EQ((*reader)->register_device_memory(address_of(local) + kHugePage, kHugePage, handle).code, kHixlOk);
}

TEST_F(HixlContract, registers_nothing_without_an_address) {
  void* handle = nullptr;
  EXPECT_EQ((*reader)->register_device_memory(0, kHugePage, handle).code, kParamInvalid);
}

// By the sources it is the connect that refuses. ray-hixl registers none, so that either will do.
TEST_F(HixlContract, finds_a_region_without_bytes_at_once_or_at_the_next_connect) {
  const MemoryRange local = reader->allocate(kHugePage, 99);
  void* handle = nullptr;
  const HixlCode registered = (*reader)->register_device_memory(address_of(local), 0, handle).code;
  EXPECT_THAT(registered, AnyOf(kHixlOk, kParamInvalid));
  EXPECT_EQ(connect(), registered == kHixlOk ? kParamInvalid : kHixlOk);
}

TEST_F(HixlContract, does_not_deregister_under_an_outgoing_link) {
  const MemoryRange local = reader->allocate(kHugePage, 99);
  void* handle = nullptr;
  ASSERT_EQ((*reader)->register_device_memory(address_of(local), kHugePage, handle).code, kHixlOk);
  const std::uintptr_t remote = there(kHugePage, 1);
  ASSERT_EQ(connect(), kHixlOk);
  EXPECT_EQ((*reader)->deregister_memory(handle).code, kFailed);
  EXPECT_EQ(read({{address_of(local), remote, 100}}), kHixlOk);
  EXPECT_EQ(code(owner->ask("deregister 0")), kHixlOk) << "incoming links are not guarded";
  ASSERT_EQ(disconnect(), kHixlOk);
  EXPECT_EQ((*reader)->deregister_memory(handle).code, kHixlOk);
}

TEST_F(HixlContract, does_not_mind_what_it_does_not_know) {
  int nothing = 0;
  EXPECT_EQ((*reader)->deregister_memory(&nothing).code, kHixlOk);
  EXPECT_EQ((*reader)->deregister_memory(nullptr).code, kParamInvalid);
}

TEST_F(HixlContract, fails_once_the_peer_is_finalized_and_until_it_is_connected_anew) {
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  ASSERT_EQ(read({{address_of(local), remote, 100}}), kHixlOk);
  ASSERT_EQ(owner->ask("finalize"), "0");
  EXPECT_THAT(read({{address_of(local), remote, 100}}), AnyOf(kFailed, kTimeout));
  EXPECT_EQ(read({{address_of(local), remote, 100}}), kFailed) << "the link remembers";
  EXPECT_EQ(disconnect(), kHixlOk);
  EXPECT_EQ(read({{address_of(local), remote, 100}}), kNotConnected);
}

TEST_F(HixlContract, forgets_a_request_once_its_end_was_polled) {
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  void* request = nullptr;
  ASSERT_EQ(begin({{address_of(local), remote, 100}}, request), kHixlOk);
  EXPECT_EQ(end_of(request), std::pair(kHixlOk, kCompleted));
  std::int32_t status = kWaiting;
  EXPECT_EQ((*reader)->poll(request, status).code, kParamInvalid);
  EXPECT_EQ(status, kTransferFailed);
}

TEST_F(HixlContract, forgets_requests_at_a_disconnect) {
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  void* request = nullptr;
  ASSERT_EQ(begin({{address_of(local), remote, 100}}, request), kHixlOk);
  ASSERT_EQ(disconnect(), kHixlOk);
  std::int32_t status = kWaiting;
  EXPECT_EQ((*reader)->poll(request, status).code, kParamInvalid);
}

TEST_F(HixlContract, polls_for_all_requests_at_once) {
  ASSERT_TRUE((*reader)->can_poll_all());
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  std::map<std::uint64_t, void*> requests;
  for (std::uint64_t id = 10; id < 15; ++id) {
    ASSERT_EQ(begin({{address_of(local) + id * 1000, remote + id * 1000, 100}}, requests[id], id), kHixlOk);
  }
  std::vector<std::uint64_t> ended;
  EXPECT_TRUE(eventually([&] {
    std::vector<PollResult> results;
    EXPECT_TRUE((*reader)->poll_all(results).is_ok());
    for (const PollResult& result : results) {
      const auto id = reinterpret_cast<std::uint64_t>(result.user_data);
      EXPECT_EQ(result.request, requests[id]);
      EXPECT_EQ(result.status, kCompleted) << "those that wait are left out";
      ended.push_back(id);
    }
    return ended.size() == requests.size();
  }));
  EXPECT_THAT(ended, testing::UnorderedElementsAre(10, 11, 12, 13, 14));
  std::vector<PollResult> results;
  EXPECT_TRUE((*reader)->poll_all(results).is_ok());
  EXPECT_THAT(results, testing::IsEmpty());
}

TEST_F(HixlContract, wants_time_for_a_connect) {
  EXPECT_EQ((*reader)->connect(Text(name), 0).code, kParamInvalid);
  EXPECT_EQ((*reader)->connect(Text(name), -1).code, kParamInvalid);
}

TEST_F(HixlContract, serves_two_threads_of_one_link) {
  const std::uintptr_t remote = there(kHugePage, 1);
  const MemoryRange local = here(kHugePage);
  ASSERT_EQ(connect(), kHixlOk);
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      (void)runtime_on(test_devices().first);
      for (int round = 0; round < 20; ++round) EXPECT_EQ(read({{address_of(local) + i * kMiB, remote + i * kMiB, 1000}}), kHixlOk);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_TRUE(holds_pattern(MemoryRange{local.address + kMiB, 1000, local.kind, local.device}, 1, kMiB));
}

// ---- Starting. Each in an object of its own.

class HixlStart : public testing::Test {
 protected:
  HixlStart() {
    use_test_cann();
    (void)runtime_on(test_devices().first);
  }
  // `change` is made to the options that ray-hixl gives.
  static HixlCode initialize(const std::map<std::string, std::string>& change, const std::string& name) {
    const Cann& cann = *Cann::get();
    std::map<std::string, std::string> texts = {
        {"BufferPool", "0:0"},
        {"AutoConnect", "0"},
        {"LocalCommRes", R"({"version":"1.3"})"},
        {"GlobalResourceConfig", R"({"comm_resource_config.listen_port":)" + std::to_string(TakenPort(0).port()) +
                                     R"(,"comm_resource_config.max_active_channels":16})"}};
    for (const auto& [key, value] : change) texts[key] = value;
    HixlOptions options;
    for (const auto& [key, value] : texts) options.emplace(Text(key), Text(value));
    Hixl hixl(cann.api, cann.acl);
    return hixl.initialize(name, options).code;
  }
  static std::string host() { return options_from_environment().value().host; }
};

TEST_F(HixlStart, needs_no_port_where_nobody_connects_to_it) { EXPECT_EQ(initialize({}, host()), kHixlOk); }

TEST_F(HixlStart, refuses_options_that_it_does_not_know) {
  EXPECT_EQ(initialize({{"NoSuchOption", "1"}}, host()), kParamInvalid);
  EXPECT_EQ(initialize({{"BufferPool", "4:8"}}, host()), kParamInvalid);
  EXPECT_EQ(initialize({{"AutoConnect", "maybe"}}, host()), kParamInvalid);
  EXPECT_EQ(initialize({{"LocalCommRes", "no json"}}, host()), kParamInvalid);
}

TEST_F(HixlStart, fails_where_its_port_is_taken) {
  RawHixl other(test_devices().first);
  ASSERT_EQ(other.failure(), "");
  EXPECT_EQ(initialize({}, other.name()), kFailed);
}

TEST_F(HixlStart, tells_what_it_can_do) {
  EXPECT_TRUE(Cann::get()->api.has_client_server());
  std::int32_t value = 7;
  EXPECT_EQ(Cann::get()->api.get_capability(-1, value), kParamInvalid);
}

// ---- With faults.

class HixlContractOfFaults : public HixlContract {
 protected:
  void SetUp() override {
    need_fake_cann();
    HixlContract::SetUp();
    remote = there(kHugePage, 1);
    local = here(kHugePage);
    ASSERT_EQ(connect(), kHixlOk);
    op = {{address_of(local), remote, 100}};
  }
  std::uintptr_t remote = 0;
  MemoryRange local;
  std::vector<OpDesc> op;
};

TEST_F(HixlContractOfFaults, says_of_a_request_that_it_waits) {
  const FakeSwitch slow("FAKE_HIXL_TRANSFER_DELAY_US", "50000");
  void* request = nullptr;
  ASSERT_EQ(begin(op, request), kHixlOk);
  std::int32_t status = kCompleted;
  EXPECT_EQ((*reader)->poll(request, status).code, kHixlOk);
  EXPECT_EQ(status, kWaiting);
  EXPECT_EQ(end_of(request), std::pair(kHixlOk, kCompleted));
}

TEST_F(HixlContractOfFaults, tells_a_failure_in_the_status_or_in_both) {
  void* request = nullptr;
  {
    const FakeSwitch fails("FAKE_HIXL_FAIL_AT", "1:poll");
    ASSERT_EQ(begin(op, request), kHixlOk);
    EXPECT_EQ(end_of(request), std::pair(kHixlOk, kTransferFailed));
  }
  ASSERT_EQ(disconnect(), kHixlOk);
  ASSERT_EQ(connect(), kHixlOk);
  const FakeSwitch fails("FAKE_HIXL_FAIL_AT", "1:error:507046");
  ASSERT_EQ(begin(op, request), kHixlOk);
  EXPECT_EQ(end_of(request), std::pair(HixlCode{507046}, kTransferFailed));
}

TEST_F(HixlContractOfFaults, remembers_a_failure_until_the_disconnect) {
  {
    const FakeSwitch fails("FAKE_HIXL_FAIL_AT", "1:poll");
    EXPECT_EQ(read(op), kFailed);
  }
  EXPECT_EQ(read(op), kFailed);
  ASSERT_EQ(disconnect(), kHixlOk);
  ASSERT_EQ(connect(), kHixlOk);
  EXPECT_EQ(read(op), kHixlOk);
}

TEST_F(HixlContractOfFaults, does_not_remember_that_it_was_short_of_something) {
  const FakeSwitch full("FAKE_HIXL_EXHAUST", "1");
  EXPECT_EQ(read(op), kResourceExhausted);
  EXPECT_EQ(read(op), kHixlOk);
}

TEST_F(HixlContractOfFaults, lets_late_bytes_arrive_before_a_disconnect_returns) {
  const FakeSwitch never("FAKE_HIXL_NEVER_AT", "1");
  const FakeSwitch late("FAKE_HIXL_LATE_MS", "10000");
  void* request = nullptr;
  ASSERT_EQ(begin(op, request), kHixlOk);
  ASSERT_EQ(disconnect(), kHixlOk);
  EXPECT_TRUE(holds_pattern(MemoryRange{local.address, 100, local.kind, local.device}, 1));
}

TEST_F(HixlContractOfFaults, gives_up_a_connect_at_its_timeout) {
  ASSERT_EQ(disconnect(), kHixlOk);
  const FakeSwitch slow("FAKE_HIXL_CONNECT_DELAY_MS", "10000");
  EXPECT_EQ((*reader)->connect(Text(name), 50).code, kTimeout);
  EXPECT_EQ(disconnect(), kNotConnected);
}

}  // namespace
}  // namespace ray_hixl::test
