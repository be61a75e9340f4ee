// Rounds of publishing, fetching and freeing with faults, cancelling and killing at random: every fetch brings the right bytes or one clear
// error, and nothing is left over.
//
// RAY_HIXL_FAULT_ROUNDS in the environment asks for more rounds, RAY_HIXL_FAULT_SEED for others.
#include <cstdlib>
#include <random>

#include "support/tasks.h"
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

using testing::AnyOf;

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

struct Shown {
  std::size_t owner = 0;
  Bytes published;
  Bytes metadata;  // the same, or as another host has it
  std::vector<std::uint64_t> sizes;
  std::uint64_t seed = 0;
};

class HixlRounds : public testing::Test {
 protected:
  static constexpr std::size_t kOwners = 3;  // the first one is never killed

  HixlRounds() {
    use_test_cann();
    {
      const OwnObjects before;  // what the FAKE libraries keep for good is there from here on
      EXPECT_THAT((*before).allocate(1, MemoryKind::kDevice, kPeerDevice).status(), IsOk());
    }
    EXPECT_TRUE(eventually([this] { return threads_named("hixl-").size() <= threads_before; }));
    files = open_files();
    threads = count_threads();
    consumer.emplace(impatient());
    for (std::size_t i = 0; i < kOwners; ++i) start_owner(i);
  }

  // On one of few addresses, so that owners often meet what is left of their earlier life.
  void start_owner(std::size_t index) {
    if (ports[index].first == 0) ports[index].first = std::min<std::uint16_t>(TakenPort(0).port(), 65500);
    ports[index].last = static_cast<std::uint16_t>(ports[index].first + 7);
    PeerSetup setup;
    setup.options = {"hixl_ports=" + std::to_string(ports[index].first) + "-" + std::to_string(ports[index].last)};
    owners[index] = std::make_unique<PeerProcess>(setup);
  }

  std::uint64_t below(std::uint64_t n) { return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(random); }

  Shown publish() {
    Shown shown;
    shown.owner = below(kOwners);
    shown.seed = below(1000);
    for (std::uint64_t i = 0; i <= below(4); ++i) shown.sizes.push_back(below(20) == 0 ? 3 * kMiB : below(200'000));
    const auto memory = below(2) == 0 ? SourceMemory::kSlab : SourceMemory::kDevice;
    shown.published = owners[shown.owner]->publish(shown.sizes, shown.seed, memory);
    shown.metadata = below(4) == 0 ? over_tcp(shown.published) : shown.published;
    return shown;
  }

  // A fault for the next transfers.
  struct Chosen {
    std::string fake, value;
    bool is_fatal = false;  // fetches may fail of it
  };
  Chosen choose_fault() {
    const std::vector<Chosen> faults = {{"FAKE_HIXL_DROP_LINK_AT", "1"},
                                        {"FAKE_HIXL_FAIL_AT", "1:poll"},
                                        {"FAKE_HIXL_FAIL_AT", "1:call:507046"},
                                        {"FAKE_HIXL_FAIL_AT", "2:error:503900"},
                                        {"FAKE_HIXL_FAIL_AT", "1:call:103900"},
                                        {"FAKE_HIXL_FAIL_AT", "*:poll", true},
                                        {"FAKE_HIXL_SHORT_AT", "1"},
                                        {"FAKE_HIXL_EXHAUST", "5"},
                                        {"FAKE_HIXL_TRANSFER_DELAY_US", "3000"},
                                        {"FAKE_HIXL_NEVER_AT", "1", true},
                                        {"FAKE_HIXL_CONNECT_DELAY_MS", "20"}};
    return faults[below(faults.size())];
  }

  struct Started {
    Shown object;
    Fetch fetch;
    bool may_fail = false;
  };

  void play_round(std::uint64_t round) {
    SCOPED_TRACE("round " + std::to_string(round));
    std::vector<Shown> shown = {publish()};
    if (below(3) == 0) shown.push_back(publish());
    std::optional<FakeSwitch> fault;
    std::optional<FakeSwitch> late;
    Chosen chosen;
    if (below(3) == 0) {
      chosen = choose_fault();
      fault.emplace(chosen.fake, chosen.value);
      late.emplace("FAKE_HIXL_LATE_MS", std::to_string(below(300)));
    }
    std::vector<Started> fetches;
    for (const Shown& each : shown) {
      for (std::uint64_t i = 0; i <= below(2); ++i) {
        const auto timeout = chosen.fake == "FAKE_HIXL_NEVER_AT" ? std::chrono::nanoseconds(150ms) : std::chrono::nanoseconds(kRead);
        fetches.push_back({each, consumer->objects().fetch(each.metadata, {}, nullptr, timeout), chosen.is_fatal});
      }
    }
    std::vector<bool> alive(kOwners, true);
    switch (below(12)) {
      case 0: {
        Started& cancelled = fetches[below(fetches.size())];
        cancelled.fetch.transfer().cancel();
        cancelled.may_fail = true;
        break;
      }
      case 1: {
        (void)owners[shown[0].owner]->release(shown[0].published);
        for (Started& each : fetches) each.may_fail |= each.object.published == shown[0].published;
        break;
      }
      case 2: {
        const std::size_t victim = 1 + below(kOwners - 1);
        owners[victim]->kill();
        alive[victim] = false;
        for (Started& each : fetches) each.may_fail |= each.object.owner == victim;
        ++killed;
        break;
      }
      default: break;
    }
    for (const Started& each : fetches) check(each);
    for (const Shown& each : shown) {
      if (alive[each.owner]) (void)owners[each.owner]->release(each.published);
    }
    for (std::size_t i = 0; i < kOwners; ++i) {
      if (!alive[i]) start_owner(i);
    }
  }

  void check(const Started& started) {
    ASSERT_TRUE(started.fetch.transfer().wait(10s));
    const auto tensors = started.fetch.take();
    if (tensors.is_ok()) {
      expect_patterns(*tensors, started.object.sizes, started.object.seed);
      ++delivered;
    } else {
      EXPECT_TRUE(started.may_fail) << tensors.status().to_string();
      EXPECT_THAT(tensors.status().code(),
                  AnyOf(Code::kPeerGone, Code::kConnectError, Code::kObjectFreed, Code::kCancelled, Code::kTransferTimeout))
          << tensors.status().to_string();
      ++failed;
    }
  }

  std::mt19937_64 random{from_environment("RAY_HIXL_FAULT_SEED", 1)};
  const std::size_t threads_before = threads_named("hixl-").size();  // those that earlier tests left on purpose
  std::size_t files = 0;
  std::size_t threads = 0;
  std::optional<OwnObjects> consumer;
  std::array<std::unique_ptr<PeerProcess>, kOwners> owners;
  std::array<PortRange, kOwners> ports;
  std::uint64_t delivered = 0;
  std::uint64_t failed = 0;
  std::uint64_t killed = 0;
};

TEST_F(HixlRounds, bring_the_right_bytes_or_one_clear_error_and_leave_nothing) {
  const std::uint64_t rounds = from_environment("RAY_HIXL_FAULT_ROUNDS", 1000);
  for (std::uint64_t round = 0; round < rounds && !HasFailure(); ++round) play_round(round);
  std::cout << rounds << " rounds: " << delivered << " fetches delivered, " << failed << " failed, " << killed << " owners killed, ";
  for (const DeviceStats& each : (*consumer)->stats().devices) std::cout << each.renewals << " engines replaced\n";
  EXPECT_GT(delivered, failed);

  for (std::size_t i = 1; i < kOwners; ++i) owners[i]->kill();
  PeerProcess& owner = *owners[0];
  EXPECT_EQ(owner.stat("objects"), 0u);
  EXPECT_TRUE(eventually([&] { return owner.fake_count("live_blocks") == owner.fake_count("regions"); })) << "slabs and nothing else";
  const Stats stats = (*consumer)->stats();
  EXPECT_EQ(stats.transfers_in_flight, 0u);
  EXPECT_EQ(stats.quarantined_bytes, 0u);
  for (const DeviceStats& each : stats.devices) {
    EXPECT_EQ(each.slabs.used_bytes, 0u);
    EXPECT_EQ(each.registrations, each.slabs.segments);
  }
  EXPECT_TRUE(eventually([] { return fake_count("links") <= 1; })) << "of the owner that lives";

  consumer.reset();
  EXPECT_TRUE(eventually([&] { return owner.fake_count("inbound_links") == 0; }));
  EXPECT_TRUE(eventually([&] { return owner.stat("sessions") == 0; }));
  for (auto& each : owners) each.reset();
  for (const char* count : {"live_engines", "links", "regions", "live_blocks"}) EXPECT_EQ(fake_count(count), 0u) << count;
  EXPECT_TRUE(eventually([&] { return count_threads() == threads; })) << count_threads() << " and not " << threads;
  EXPECT_EQ(open_files(), files);
}

}  // namespace
}  // namespace ray_hixl::test
