// Peers of one NPU that are more than its links of HIXL, and links that nobody uses.
#include <algorithm>
#include <deque>
#include <thread>

#include "support/tasks.h"
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

constexpr std::size_t kPeers = 40;

Options with_links(std::uint32_t links) {
  Options options;
  options.hixl_max_links = links;
  return options;
}

class HixlTurns : public HixlProcesses {
 protected:
  HixlTurns() : HixlProcesses(with_links(4)) {}
};

TEST_F(HixlTurns, of_forty_peers_of_one_npu) {
  std::deque<PeerProcess> peers;
  std::vector<Bytes> objects;
  for (std::size_t i = 0; i < kPeers; ++i) {
    peers.emplace_back(PeerSetup{.options = {"slab_bytes=2097152", "hixl_max_active_channels=16"}});
    objects.push_back(peers.back().publish({4096, 100}, i, SourceMemory::kSlab));
  }
  std::vector<Fetch> fetches;
  for (const Bytes& object : objects) fetches.push_back(start(object));
  std::uint64_t most = 0;
  const auto all_ended = [&] {
    most = std::max(most, fake_count("links"));
    return std::ranges::all_of(fetches, [](const Fetch& each) { return each.transfer().done(); });
  };
  EXPECT_TRUE(eventually(all_ended));
  for (std::size_t i = 0; i < kPeers; ++i) {
    EXPECT_THAT(fetches[i].transfer().result(), IsOk());
    expect_fetched(objects[i], {4096, 100}, i);
  }
  EXPECT_LE(most, 4u);
  EXPECT_GE(device().links_yielded, kPeers - 4);
  EXPECT_EQ(device().links_broken + device().renewals + device().connects_failed, 0u);
  for (std::size_t i = 1; i < kPeers; ++i) EXPECT_EQ(peers[i].fetch(objects[0], 0), "ok") << "all of them read from one";
  EXPECT_EQ(peers[0].fake_count("inbound_links"), kPeers - 1);
}

Options with_idle_time(double seconds) {
  Options options;
  options.idle_timeout_s = seconds;
  return options;
}

class HixlIdleLinks : public HixlProcesses {
 protected:
  HixlIdleLinks() : HixlProcesses(with_idle_time(0.3)) {}
};

// The connection of ray-hixl's own stays in use.
TEST_F(HixlIdleLinks, go_down_and_come_again_unseen) {
  PeerProcess owner;
  const Bytes on_the_host = owner.publish({4096}, 1, SourceMemory::kOrdinary);
  for (std::uint64_t round = 1; round <= 2; ++round) {
    expect_served(owner);
    EXPECT_EQ(device().connects, round);
    EXPECT_TRUE(eventually([&] {
      expect_fetched(on_the_host, {4096}, 1);
      return fake_count("links") == 0;
    }));
    EXPECT_EQ(device().links_yielded, round);
  }
  EXPECT_TRUE(eventually([&] { return owner.fake_count("inbound_links") == 0; }));
  EXPECT_EQ(device().links_broken, 0u);
  EXPECT_EQ(owner.stat("sessions"), 1u);
}

}  // namespace
}  // namespace ray_hixl::test
