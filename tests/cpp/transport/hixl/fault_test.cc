// What may go wrong between processes that read each other's device memory, by the FAKE HIXL's faults and by killing.
//
// HIXL has no checksum: bytes that arrive wrong are delivered wrong (see the FAKE's GARBLE_AT, which nothing here could notice).
#include <csignal>
#include <thread>

#include "support/event.h"
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kNever = "30000000";  // us

class HixlFaults : public HixlProcesses {
 protected:
  using HixlProcesses::HixlProcesses;
  // A fetch that HIXL has and that does not come to an end by itself.
  Fetch start_stuck(const Bytes& metadata, std::chrono::nanoseconds timeout = kRead) {
    const std::uint64_t before = fake_count("TransferAsync");
    Fetch fetch = start(metadata, timeout);
    EXPECT_TRUE(transfers_reach(before + 1));
    return fetch;
  }
  PeerProcess owner;
};

// ---- Connecting.

Options with_connect_timeout(double seconds) {
  Options options;
  options.connect_timeout_s = seconds;
  return options;
}

class HixlDeadConnect : public HixlProcesses {
 protected:
  HixlDeadConnect() : HixlProcesses(with_connect_timeout(2.5 * wall_yardstick())) {}
};

TEST_F(HixlDeadConnect, delays_nobody_else) {
  PeerProcess linked, fresh, dead;
  PeerProcess grows(PeerSetup{.options = {"slab_bytes=2097152"}});
  expect_served(linked);
  expect_served(grows);
  const Bytes of_dead = dead.publish({4096}, 1, SourceMemory::kSlab);
  const FakeSwitch hangs("FAKE_HIXL_CONNECT_DELAY_MS", dead.hixl_name() + "=100000");
  const Bytes of_fresh = fresh.publish({4096}, 2, SourceMemory::kSlab);
  const Bytes newer = grows.publish({3 * kMiB}, 3, SourceMemory::kSlab);
  const Region late = make_region(**consumer, 4096, 99, SourceMemory::kDevice, kPeerDevice);
  const Peer linked_peer = (*consumer)->connect(linked.descriptor(), kConnect).value();
  const RemoteRegion region = linked_peer.region(linked.add_region(4096, 4, SourceMemory::kSlab)).value();

  const std::uint64_t before = device().connects;
  const Fetch hanging = start(of_dead);
  ASSERT_TRUE(eventually([&] { return device().connects == before + 1; }));
  const auto begin = std::chrono::steady_clock::now();
  expect_served(linked);
  expect_fetched(of_fresh, {4096}, 2);
  expect_fetched(newer, {3 * kMiB}, 3);
  EXPECT_EQ(device().refreshes, 1u) << "for the owner's new slab";
  EXPECT_THAT(linked_peer.read(whole(linked_peer, late, region), kRead), IsOk());
  EXPECT_EQ(device().refreshes, 2u) << "for memory that was registered here";
  EXPECT_LT(std::chrono::steady_clock::now() - begin, scaled(2s));
  EXPECT_FALSE(hanging.transfer().done());
  EXPECT_TRUE(holds_pattern(late, 4));
  dead.kill();
  EXPECT_THAT(hanging, EndsWithin(2s));
  EXPECT_THAT(hanging.transfer().result(), FailsWith(Code::kPeerGone));
}

// HIXL itself would give up after a second.
TEST_F(HixlProcesses, a_connect_may_take_as_long_as_the_option_says) {
  PeerProcess owner;
  const Bytes object = owner.publish({4096}, 1, SourceMemory::kSlab);
  const FakeSwitch slow("FAKE_HIXL_CONNECT_DELAY_MS", "1200");
  expect_fetched(object, {4096}, 1);
  EXPECT_EQ(device().connects, 1u);
}

class HixlShortConnect : public HixlProcesses {
 protected:
  HixlShortConnect() : HixlProcesses(with_connect_timeout(0.7)) {}
};

TEST_F(HixlShortConnect, a_connect_that_times_out_says_so) {
  PeerProcess dead;
  const Bytes object = dead.publish({4096}, 1, SourceMemory::kSlab);
  const FakeSwitch hangs("FAKE_HIXL_CONNECT_DELAY_MS", "10000");
  const Fetch fetch = start(object);
  EXPECT_THAT(fetch, EndsWithin(2s));
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kConnectError));
  EXPECT_THAT(fetch.transfer().result().message(), AllOf(HasSubstr("TIMEOUT (103901)"), HasSubstr(dead.hixl_name()), HasSubstr("FAKE")));
}

// And who comes next does not wait for the connect again.
TEST_F(HixlShortConnect, what_hixl_does_not_link_is_staged_where_that_is_allowed) {
  PeerProcess owner("shm,stream,hixl,staged");
  Options options = impatient(with_connect_timeout(0.7));
  options.transports = Options{}.transports;
  const OwnObjects reader(options);
  const FakeSwitch hangs("FAKE_HIXL_CONNECT_DELAY_MS", "10000");
  const std::vector<std::uint64_t> sizes{4096, 3 * kMiB};
  std::uint64_t connects = 0;
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const Fetch fetch = reader.objects().fetch(owner.publish(sizes, seed, SourceMemory::kSlab), {}, nullptr, kRead);
    EXPECT_THAT(fetch, EndsWithin(seed == 0 ? 2s : 500ms));
    EXPECT_THAT(names(fetch.transfer().bytes_by_transport()), ElementsAre("staged"));
    expect_patterns(fetch.take().value(), sizes, seed);
    if (seed == 0) connects = fake_count("Connect");
  }
  EXPECT_EQ(fake_count("Connect"), connects);
}

class HixlSlowConnect : public HixlProcesses {
 protected:
  HixlSlowConnect() : HixlProcesses(with_connect_timeout(1.5)) {}
};

// HIXL may take longer for a link than a fetch has: half of its time is staged's. The link that comes all the same is used afterwards.
TEST_F(HixlSlowConnect, gives_way_to_staged_before_the_fetch_has_no_time_left) {
  PeerProcess owner("shm,stream,hixl,staged");
  Options options = with_connect_timeout(1.5);
  options.transports = Options{}.transports;
  const OwnObjects reader(options);
  const std::uint64_t before = fake_count("Connect");
  {
    const FakeSwitch slow("FAKE_HIXL_CONNECT_DELAY_MS", "1100");
    const Fetch fetch = reader.objects().fetch(owner.publish({4096}, 1, SourceMemory::kSlab), {}, nullptr, 1200ms);
    EXPECT_THAT(fetch, EndsWithin(1150ms));
    EXPECT_THAT(names(fetch.transfer().bytes_by_transport()), ElementsAre("staged"));
    expect_patterns(fetch.take().value(), {4096}, 1);
  }
  const auto fetched_by = [&](std::uint64_t seed) {
    const Fetch fetch = reader.objects().fetch(owner.publish({4096}, seed, SourceMemory::kSlab), {}, nullptr, kRead);
    EXPECT_TRUE(fetch.transfer().wait(kRead));
    auto by = names(fetch.transfer().bytes_by_transport());
    expect_patterns(fetch.take().value(), {4096}, seed);
    return by;
  };
  EXPECT_THAT(fetched_by(2), ElementsAre("staged")) << "it is not waited for again";
  std::uint64_t seed = 3;
  EXPECT_TRUE(eventually([&] { return fetched_by(seed++).front() == "hixl"; }));
  EXPECT_EQ(fake_count("Connect"), before + 1);
}

// 3 s of HIXL's, which gives each of its stages the whole time.
TEST_F(HixlShortConnect, a_connect_of_slow_stages_ends_in_its_time) {
  PeerProcess slow;
  const Bytes object = slow.publish({4096}, 1, SourceMemory::kSlab);
  const std::uint64_t before = fake_count("Disconnect");
  {
    const FakeSwitch stages("FAKE_HIXL_STAGE_DELAY_MS", "600");
    const Fetch fetch = start(object);
    EXPECT_THAT(fetch, EndsWithin(1500ms));
    EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kConnectError));
    EXPECT_THAT(fetch.transfer().result().message(), AllOf(HasSubstr(slow.hixl_name()), HasSubstr("connect_timeout_s (700 ms)")));
    EXPECT_TRUE(eventually([=] { return fake_count("Disconnect") == before + 1; })) << "the link came, and nobody wanted it any more";
  }
  expect_fetched(object, {4096}, 1);
  EXPECT_EQ(device().connects, 2u);
}

TEST_F(HixlSlowConnect, is_waited_for_when_the_engine_closes) {
  PeerProcess slow;
  const Bytes object = slow.publish({4096}, 1, SourceMemory::kSlab);
  const FakeSwitch stages("FAKE_HIXL_STAGE_DELAY_MS", "1450");
  const Fetch fetch = start(object);
  ASSERT_TRUE(eventually([&] { return device().connects == 1; }));
  (*consumer)->close();
  EXPECT_EQ(fake_count("live_engines"), 0u) << "nothing is left behind";
}

TEST_F(HixlShortConnect, closing_waits_no_longer_than_a_connect_takes) {
  PeerProcess dead;
  const Bytes object = dead.publish({4096}, 1, SourceMemory::kSlab);
  const FakeSwitch hangs("FAKE_HIXL_CONNECT_DELAY_MS", "10000");
  const Fetch fetch = start(object);
  ASSERT_TRUE(eventually([&] { return device().connects == 1; }));
  const auto begin = std::chrono::steady_clock::now();
  std::thread closer([&] { (*consumer)->close(); });
  EXPECT_THAT(fetch, EndsWithin(500ms));
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kClosed));
  closer.join();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, scaled(2s));
  EXPECT_EQ(fake_count("live_engines"), 0u);
}

// ---- The owner's end.

TEST_F(HixlFaults, a_killed_owner_is_noticed_at_once_and_others_are_not_touched) {
  PeerProcess other;
  expect_served(other);
  expect_served(owner);
  const Bytes object = owner.publish({4 * kMiB}, 1, SourceMemory::kSlab);
  {
    const FakeSwitch slow("FAKE_HIXL_TRANSFER_DELAY_US", kNever);
    const Fetch fetch = start_stuck(object);
    owner.kill();
    EXPECT_THAT(fetch, EndsWithin(2s));
    EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kPeerGone));
  }
  EXPECT_THAT(fetch(consumer->objects(), object).status(), FailsWith(Code::kPeerGone));
  expect_served(other);
  EXPECT_TRUE(eventually([this] { return device().renewals == 1; })) << "the dead one's request may still be somewhere in it";
  expect_served(other);
  EXPECT_EQ(fake_count("links"), 1u);
}

TEST_F(HixlFaults, an_owner_that_dies_while_it_is_connected_to_is_noticed) {
  const Bytes object = owner.publish({4096}, 1, SourceMemory::kSlab);
  const FakeSwitch slow("FAKE_HIXL_CONNECT_DELAY_MS", "1000");
  const Fetch fetch = start(object);
  ASSERT_TRUE(eventually([&] { return device().connects == 1; }));
  owner.kill();
  EXPECT_THAT(fetch, EndsWithin(900ms));
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kPeerGone));
}

TEST_F(HixlFaults, an_owner_restarted_on_the_same_address_is_another_one) {
  const PortRange ports = two_free_ports();
  const PeerSetup setup{.options = {"hixl_ports=" + std::to_string(ports.first) + "-" + std::to_string(ports.last)}};
  auto first = std::make_unique<PeerProcess>(setup);
  expect_served(*first);
  const Bytes old_object = first->publish({4096, 100}, 1, SourceMemory::kSlab);
  expect_fetched(old_object, {4096, 100}, 1);
  const std::string name = first->hixl_name();
  std::unique_ptr<PeerProcess> second;
  Bytes new_object;
  first->kill();
  do {  // it takes either of the two
    second = std::make_unique<PeerProcess>(setup);
    new_object = second->publish({4096, 100}, 2, SourceMemory::kSlab);
  } while (second->hixl_name() != name);
  expect_fetched(new_object, {4096, 100}, 2);
  EXPECT_THAT(fetch(consumer->objects(), old_object).status(), FailsWith(Code::kPeerGone));
  expect_fetched(new_object, {4096, 100}, 2);
  EXPECT_EQ(device().connects, 2u);
}

TEST_F(HixlFaults, an_owner_may_close_its_engine_under_a_reader) {
  expect_served(owner);
  const Bytes object = owner.publish({4 * kMiB}, 1, SourceMemory::kSlab);
  const FakeSwitch slow("FAKE_HIXL_TRANSFER_DELAY_US", kNever);
  const Fetch fetch = start_stuck(object);
  owner.close_engine();
  EXPECT_THAT(fetch, EndsWithin(2s));
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kPeerGone));
}

// ---- Deadlines and cancelling.

class HixlLateBytes : public HixlFaults {
 protected:
  // Nobody writes to the region for so long.
  static void expect_untouched(const Region& region, std::chrono::milliseconds time) {
    const Bytes canary(region.range().length, std::byte{0xee});
    store(region.range(), canary);
    std::this_thread::sleep_for(time);
    EXPECT_EQ(load(region.range()), canary);
  }
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(kMiB, 1, SourceMemory::kSlab)).value();
  const Region local = make_region(**consumer, kMiB, 99, SourceMemory::kSlab, kPeerDevice);
  const Batch batch = whole(peer, local, remote);
};

TEST_F(HixlLateBytes, come_before_the_transfer_ends) {
  for (const char* late : {"50", "1000"}) {  // in the moment it is given, or when the link goes down
    {
      const FakeSwitch waits("FAKE_HIXL_NEVER_AT", "1");
      const FakeSwitch comes_late("FAKE_HIXL_LATE_MS", late);
      EXPECT_THAT(peer.read(batch, 100ms), FailsWith(Code::kTransferTimeout));
    }
    expect_untouched(local, 200ms);
    EXPECT_THAT(peer.read(batch, kRead), IsOk());
    EXPECT_TRUE(holds_pattern(local, 1));
  }
  EXPECT_EQ((*consumer)->stats().quarantined_bytes, 0u);
}

TEST_F(HixlLateBytes, of_a_cancelled_transfer_come_before_its_end) {
  const FakeSwitch waits("FAKE_HIXL_NEVER_AT", "1");
  const FakeSwitch comes_late("FAKE_HIXL_LATE_MS", "500");
  const Transfer transfer = peer.read_async(batch, kRead);
  ASSERT_TRUE(transfers_reach(1));
  transfer.cancel();
  ASSERT_TRUE(transfer.wait(2s));
  EXPECT_THAT(transfer.result(), FailsWith(Code::kCancelled));
  expect_untouched(local, 300ms);
}

TEST_F(HixlLateBytes, of_a_transfer_that_failed_for_good_come_before_its_end) {
  const FakeSwitch fails("FAKE_HIXL_FAIL_AT", "*:poll");
  const FakeSwitch comes_late("FAKE_HIXL_LATE_MS", "300");
  EXPECT_THAT(peer.read(batch, kRead), FailsWith(Code::kPeerGone));
  expect_untouched(local, 400ms);
}

TEST_F(HixlLateBytes, do_not_reach_memory_that_was_given_out_again) {
  const Bytes first = owner.publish({2 * kMiB}, 10, SourceMemory::kSlab);
  const Bytes second = owner.publish({2 * kMiB}, 11, SourceMemory::kSlab);
  expect_fetched(second, {2 * kMiB}, 11);  // and is given back: the next ones get its block
  for (int round = 0; round < 3; ++round) {
    {
      const FakeSwitch waits("FAKE_HIXL_NEVER_AT", "1");
      const FakeSwitch comes_late("FAKE_HIXL_LATE_MS", "250");
      EXPECT_THAT(start(first, 50ms), EndsWithin(2s));
    }
    const auto tensors = fetch(consumer->objects(), second);
    ASSERT_THAT(tensors.status(), IsOk());
    std::this_thread::sleep_for(300ms);  // the time that is looked at
    expect_patterns(*tensors, {2 * kMiB}, 11);
  }
  EXPECT_EQ(device().slabs.segments, 1u) << "the same memory served all of them";
}

// HIXL does not say for a while whether it still writes.
TEST_F(HixlLateBytes, keep_their_memory_in_quarantine_until_the_link_is_down) {
  const Bytes object = owner.publish({2 * kMiB}, 10, SourceMemory::kSlab);
  PeerProcess other;
  expect_served(other);
  expect_fetched(object, {2 * kMiB}, 10);
  const std::uint64_t used = kMiB;  // by the region
  ASSERT_TRUE(eventually([&] { return device().slabs.used_bytes == used; }));
  {
    const FakeSwitch waits("FAKE_HIXL_NEVER_AT", "1");
    const FakeSwitch hangs("FAKE_HIXL_DISCONNECT_DELAY_MS", owner.hixl_name() + "=3500");
    const Fetch fetch = start(object, 100ms);
    EXPECT_THAT(fetch, EndsWithin(1s)) << "nobody has the memory yet, so nobody has to wait for it";
    EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kTransferTimeout));
  }
  EXPECT_EQ((*consumer)->stats().quarantined_bytes, 2 * kMiB);
  EXPECT_EQ(device().slabs.used_bytes, used + 2 * kMiB) << "nobody else gets the memory";
  expect_served(other);
  EXPECT_TRUE(eventually([&] { return (*consumer)->stats().quarantined_bytes == 0; }));
  EXPECT_TRUE(eventually([&] { return device().slabs.used_bytes == used; }));
  expect_fetched(object, {2 * kMiB}, 10);
}

// The caller uses it again once the transfer has ended: so it waits, a second at most.
TEST_F(HixlLateBytes, into_the_callers_memory_are_waited_for_or_told_of) {
  const Bytes object = owner.publish({2 * kMiB}, 10, SourceMemory::kSlab);
  const Region target = (*consumer)->allocate(2 * kMiB, MemoryKind::kDevice, 0).value();
  const auto into_target = [&] { return consumer->objects().fetch(object, std::vector<MemoryRange>{target.range()}, nullptr, kRead); };
  EXPECT_THAT(into_target(), EndsWithin(kRead));
  const FakeSwitch waits("FAKE_HIXL_NEVER_AT", "1");
  const FakeSwitch hangs("FAKE_HIXL_DISCONNECT_DELAY_MS", owner.hixl_name() + "=3000");
  const std::uint64_t before = fake_count("TransferAsync");
  const Fetch fetch = into_target();
  ASSERT_TRUE(transfers_reach(before + 1));  // before that nothing would be late
  fetch.transfer().cancel();
  EXPECT_THAT(fetch, EndsWithin(2500ms));
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kCancelled));
  EXPECT_THAT(fetch.transfer().result().message(), HasSubstr("may still be written"));
  EXPECT_EQ((*consumer)->stats().quarantined_bytes, 2 * kMiB);
  EXPECT_TRUE(eventually([&] { return (*consumer)->stats().quarantined_bytes == 0; }));
}

TEST_F(HixlLateBytes, do_not_keep_a_transfer_of_a_dead_owner_waiting_for_its_deadline) {
  const FakeSwitch waits("FAKE_HIXL_NEVER_AT", "1");
  const FakeSwitch hangs("FAKE_HIXL_DISCONNECT_DELAY_MS", "3500");
  const Fetch fetch = start_stuck(owner.publish({4096}, 1, SourceMemory::kSlab));
  owner.kill();
  EXPECT_THAT(fetch, EndsWithin(3s));
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kPeerGone));
}

// ---- Faults that are tried again.

struct Fault {
  std::string name;
  std::string fake;
  std::string value;
};
void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

class HixlRetries : public HixlFaults, public testing::WithParamInterface<Fault> {};

TEST_P(HixlRetries, bring_every_byte) {
  const std::vector<std::uint64_t> sizes = {3 * kMiB, 1, 70000};
  expect_served(owner);
  std::vector<Bytes> objects;
  for (std::uint64_t seed = 0; seed < 3; ++seed) objects.push_back(owner.publish(sizes, 10 * seed, SourceMemory::kSlab));
  const FakeSwitch fault(GetParam().fake, GetParam().value);
  std::vector<Fetch> fetches;
  for (const Bytes& object : objects) fetches.push_back(start(object));
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    ASSERT_TRUE(fetches[seed].transfer().wait());
    const auto tensors = fetches[seed].take();
    ASSERT_THAT(tensors.status(), IsOk());
    expect_patterns(*tensors, sizes, 10 * seed);
  }
  expect_served(owner);
}

INSTANTIATE_TEST_SUITE_P(After, HixlRetries,
                         testing::ValuesIn(std::vector<Fault>{{"a_dropped_link", "FAKE_HIXL_DROP_LINK_AT", "1"},
                                                              {"two_dropped_links", "FAKE_HIXL_DROP_LINK_AT", "1,4"},
                                                              {"a_call_that_failed", "FAKE_HIXL_FAIL_AT", "2:call:503900"},
                                                              {"a_call_that_timed_out", "FAKE_HIXL_FAIL_AT", "1:call:103901"},
                                                              {"a_call_without_link", "FAKE_HIXL_FAIL_AT", "1:call:103902"},
                                                              {"a_call_with_an_unknown_status", "FAKE_HIXL_FAIL_AT", "1:call:507046"},
                                                              {"a_call_with_unknown_memory", "FAKE_HIXL_FAIL_AT", "1:call:103900"},
                                                              {"a_poll_that_failed", "FAKE_HIXL_FAIL_AT", "2:poll"},
                                                              {"a_poll_with_an_error", "FAKE_HIXL_FAIL_AT", "1:error:503900"},
                                                              {"a_poll_with_an_unknown_status", "FAKE_HIXL_FAIL_AT", "1:error:507046"},
                                                              {"a_transfer_cut_short", "FAKE_HIXL_SHORT_AT", "1,2"},
                                                              {"slots_ran_out", "FAKE_HIXL_EXHAUST", "40"}}),
                         [](const auto& fault) { return fault.param.name; });

TEST_F(HixlFaults, a_link_that_fails_again_and_again_is_an_error) {
  expect_served(owner);
  const Bytes object = owner.publish({4096}, 1, SourceMemory::kSlab);
  for (const char* fault : {"*:poll", "*:call:507046", "*:error:507046"}) {
    const FakeSwitch fails("FAKE_HIXL_FAIL_AT", fault);
    const Fetch fetch = start(object);
    EXPECT_THAT(fetch, EndsWithin(3s));
    EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kPeerGone)) << fault;
    EXPECT_THAT(fetch.transfer().result().message(), AllOf(HasSubstr("again and again"), HasSubstr(owner.hixl_name())));
  }
  expect_fetched(object, {4096}, 1);
}

TEST_F(HixlFaults, memory_that_hixl_does_not_know_after_a_new_connect_is_an_error) {
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(4096, 1, SourceMemory::kSlab)).value();
  const Region local = make_region(**consumer, 4096, 99, SourceMemory::kSlab, kPeerDevice);
  const FakeSwitch fails("FAKE_HIXL_FAIL_AT", "*:call:103900");
  const Status status = peer.read(whole(peer, local, remote), kRead);
  EXPECT_THAT(status, FailsWith(Code::kInternal));
  EXPECT_THAT(status.message(), HasSubstr("PARAM_INVALID (103900)"));
  EXPECT_EQ(device().connects, 2u);
  EXPECT_TRUE(holds_pattern(local, 99));
}

TEST_F(HixlFaults, a_transfer_without_room_ends_at_its_deadline) {
  expect_served(owner);
  const FakeSwitch full("FAKE_HIXL_EXHAUST", "1000000");
  const Fetch fetch = start(owner.publish({4096}, 1, SourceMemory::kSlab), 200ms);
  EXPECT_THAT(fetch, EndsWithin(1s));
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kTransferTimeout));
  EXPECT_EQ(device().links_broken, 0u) << "the link is good";
}

// Each request takes 2 MiB of the device.
TEST_F(HixlFaults, a_request_that_there_is_no_device_memory_for_is_waited_for_and_named) {
  expect_served(owner);
  const Bytes object = owner.publish({4096}, 1, SourceMemory::kSlab);
  const transport::hixl::Acl& runtime = runtime_on(kPeerDevice);
  std::vector<void*> blocks;
  for (const std::uint64_t bytes : {256 * kMiB, 2 * kMiB}) {
    void* block = nullptr;
    while (runtime.malloc(&block, bytes, transport::hixl::kAclHugeOnly) == transport::hixl::kAclOk) blocks.push_back(block);
  }
  const Fetch hasty = start(object, 100ms);
  EXPECT_THAT(hasty, EndsWithin(1s));
  EXPECT_THAT(hasty.transfer().result(), FailsWith(Code::kOutOfMemory));
  EXPECT_THAT(hasty.transfer().result().message(), AllOf(HasSubstr("no memory for a request"), HasSubstr("207018"), HasSubstr("deadline")));
  const Fetch patient = start(object);
  for (void* const block : blocks) EXPECT_EQ(runtime.free(block), transport::hixl::kAclOk);
  EXPECT_TRUE(patient.transfer().wait(10s));
  EXPECT_THAT(patient.transfer().result(), IsOk());
  EXPECT_EQ(device().connects, 1u) << "the link is good";
  EXPECT_EQ(device().links_broken, 0u);
}

// ---- Links that go down with requests in flight.

// HIXL (9.1 to 9.2) tells of a request by its link's slot, and what ends while a link goes down is told to whoever gets the slot next: one
// request too early, from then on.
TEST_F(HixlFaults, no_fetch_is_told_of_the_end_of_what_another_one_asked_for) {
  PeerProcess other;
  expect_served(other);
  expect_served(owner);
  const Bytes object = owner.publish({4096}, 1, SourceMemory::kSlab);
  const std::uint64_t strays = fake_count("stray_records");
  {
    const FakeSwitch slow("FAKE_HIXL_TRANSFER_DELAY_US", "600000");  // it ends while its link goes down
    const FakeSwitch held("FAKE_HIXL_ABORT_HOLD_MS", "1000");
    const Fetch fetch = start_stuck(object);
    fetch.transfer().cancel();
    EXPECT_THAT(fetch, EndsWithin(100ms)) << "its memory is kept, and nobody waits for it";
    EXPECT_GT((*consumer)->stats().quarantined_bytes, 0u);
    EXPECT_TRUE(eventually([this] { return device().renewals == 1; }));
  }
  EXPECT_EQ(fake_count("stray_records") - strays, 1u) << "it did end while its link went down";
  EXPECT_TRUE(eventually([this] { return (*consumer)->stats().quarantined_bytes == 0; }));
  const FakeSwitch late("FAKE_HIXL_TRANSFER_DELAY_US", "5000");  // an end that is told before is seen by the bytes
  for (std::uint64_t i = 0; i < 20; ++i) {                       // links on every slot
    expect_fetched(other.publish({4096}, i, SourceMemory::kDevice), {4096}, i);
    expect_fetched(owner.publish({4096}, i, SourceMemory::kDevice), {4096}, i);
  }
  EXPECT_EQ(fake_count("early_completions"), 0u);
}

// The same call aborts a slot once for each of its requests; another link may have it by then.
TEST_F(HixlFaults, no_fetch_is_lost_to_a_link_that_goes_down_with_several_requests) {
  PeerProcess other;
  expect_served(other);
  std::vector<Fetch> stuck;
  const FakeSwitch gap("FAKE_HIXL_ABORT_GAP_MS", "100");
  const FakeSwitch never("FAKE_HIXL_NEVER_AT", "1");  // and what is behind it
  {
    for (std::uint64_t i = 0; i < 4; ++i) stuck.push_back(start_stuck(owner.publish({4096}, i, SourceMemory::kSlab)));
    for (const Fetch& fetch : stuck) fetch.transfer().cancel();
  }
  const auto begin = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; device().renewals == 0 && std::chrono::steady_clock::now() - begin < scaled(5s); ++i) {
    expect_fetched(other.publish({4096}, i, SourceMemory::kDevice), {4096}, i);
  }
  EXPECT_EQ(device().renewals, 1u);
  EXPECT_GE(fake_count("aborts"), 1u) << "it went down with requests in flight";
  EXPECT_EQ(fake_count("aborts_of_others"), 0u);
}

// A second link is given up while the first one's engine is about to be replaced.
TEST_F(HixlFaults, one_engine_is_replaced_for_all_links_that_are_given_up) {
  PeerProcess other;
  expect_served(other);
  expect_served(owner);
  const Bytes mine = owner.publish({4096}, 1, SourceMemory::kSlab);
  const Bytes others = other.publish({4096}, 2, SourceMemory::kSlab);
  {
    const FakeSwitch never("FAKE_HIXL_TRANSFER_DELAY_US", kNever);
    const Fetch first = start_stuck(mine);
    const Fetch second = start_stuck(others);
    first.transfer().cancel();
    std::this_thread::sleep_for(100ms);
    second.transfer().cancel();
    EXPECT_TRUE(eventually([this] { return device().renewals == 1; }));
  }
  expect_fetched(mine, {4096}, 1);
  expect_fetched(others, {4096}, 2);
  EXPECT_EQ(device().renewals, 1u);
}

TEST_F(HixlFaults, what_is_published_and_registered_outlives_the_engine_that_it_was_registered_with) {
  const Region registered = make_region(**consumer, 4096, 3, SourceMemory::kDevice, kPeerDevice);
  const auto kept = fetch(consumer->objects(), owner.publish({4096, 100}, 7, SourceMemory::kSlab));
  ASSERT_THAT(kept.status(), IsOk());
  const std::size_t registrations = device().registrations;
  {
    const FakeSwitch never("FAKE_HIXL_TRANSFER_DELAY_US", kNever);
    const Fetch fetch = start_stuck(owner.publish({4096}, 1, SourceMemory::kSlab));
    fetch.transfer().cancel();
    EXPECT_TRUE(eventually([this] { return device().renewals == 1; }));
  }
  EXPECT_EQ(device().registrations, registrations);
  EXPECT_EQ(fake_count("regions"), registrations);
  EXPECT_TRUE(holds_pattern(registered, 3));
  expect_patterns(*kept, {4096, 100}, 7);
  expect_served(owner);
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(4096, 9, SourceMemory::kDevice)).value();
  EXPECT_THAT(peer.read(whole(peer, registered, remote), kRead), IsOk()) << "into memory that was registered with the engine before";
  EXPECT_TRUE(holds_pattern(registered, 9));
}

// Readers of an engine that has to be replaced.
class HixlRecall : public HixlFaults {
 protected:
  // An object of this process, of one tensor.
  Bytes publish_here(std::uint64_t seed) {
    memory.push_back(make_region(**consumer, 4096, seed, SourceMemory::kSlab, kPeerDevice));
    const SourceTensor source{memory.back().range(), 0};
    return consumer->objects().publish(std::vector{uint8_layout(4096)}, std::vector{source}, nullptr);
  }
  // Has this process's engine replaced: what it reads does not end.
  void taint() {
    const std::uint64_t before = device().renewals;
    const FakeSwitch never("FAKE_HIXL_TRANSFER_DELAY_US", kNever);
    const Fetch fetch = start_stuck(owner.publish({4096}, 1, SourceMemory::kSlab));
    fetch.transfer().cancel();
    EXPECT_TRUE(eventually([&] { return device().renewals == before + 1; }));
  }
  std::vector<Region> memory;
  PeerProcess reader;
};

TEST_F(HixlRecall, readers_find_what_was_published_at_the_engine_that_comes_after) {
  const Bytes object = publish_here(7);
  ASSERT_EQ(reader.fetch(object, 7), "ok");
  ASSERT_EQ(reader.stat("connects"), 1u);
  for (std::uint64_t i = 1; i <= 3; ++i) {
    taint();
    EXPECT_EQ(reader.fetch(object, 7), "ok");
    EXPECT_EQ(reader.fetch(publish_here(50 + i), 50 + i), "ok");
    EXPECT_EQ(reader.stat("connects"), 1 + i);
  }
  EXPECT_EQ(reader.stat("broken"), 0u) << "it had taken its link down before";
  EXPECT_EQ(reader.stat("retries"), 0u);
}

TEST_F(HixlRecall, what_readers_have_in_flight_ends_first) {
  const Bytes object = publish_here(7);
  ASSERT_EQ(reader.fetch(object, 7), "ok");
  reader.set_fake("FAKE_HIXL_TRANSFER_DELAY_US", "100000");
  const std::uint64_t begun = reader.fake_count("TransferAsync");
  Bytes many = object;
  std::thread tainting([this] { taint(); });
  for (int i = 0; i < 5; ++i) EXPECT_EQ(reader.fetch(object, 7), "ok");
  tainting.join();
  EXPECT_EQ(reader.fake_count("TransferAsync"), begun + 5);
  EXPECT_EQ(reader.stat("broken"), 0u);
}

// Weights that are made anew at every step, a KV cache that is: what nobody uses any more does not pile up under a reader that stays.
TEST_F(HixlRecall, memory_that_nobody_uses_any_more_is_taken_out_under_a_reader_that_stays) {
  expect_served(owner);  // a link of our own, too
  const auto step = [this](std::uint64_t seed) {
    const Region region = make_region(**consumer, 32 * kMiB, seed, SourceMemory::kDevice, kPeerDevice);
    const SourceTensor source{region.range(), 0};
    const Bytes object = consumer->objects().publish(std::vector{uint8_layout(32 * kMiB)}, std::vector{source}, nullptr);
    EXPECT_EQ(reader.fetch(object, seed), "ok");
    EXPECT_TRUE(consumer->objects().release(object));
  };
  std::uint64_t most = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    step(seed);
    most = std::max(most, device().unused_bytes);
    EXPECT_TRUE(eventually([this] { return device().unused_bytes < 96 * kMiB; })) << "after " << seed << " steps";
  }
  EXPECT_GE(most, 32 * kMiB) << "it was there";
  EXPECT_EQ(reader.stat("broken"), 0u);
  EXPECT_EQ(device().renewals, 0u);
  expect_served(owner);
}

TEST_F(HixlRecall, a_reader_that_does_not_answer_keeps_what_it_may_read_and_delays_nobody) {
  expect_served(owner);
  const Bytes object = publish_here(7);
  ASSERT_EQ(reader.fetch(object, 7), "ok");
  reader.pause();
  const std::uint64_t connects = device().connects;
  std::chrono::nanoseconds longest{};
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    (void)make_region(**consumer, 32 * kMiB, seed, SourceMemory::kDevice, kPeerDevice);
    const auto begin = std::chrono::steady_clock::now();
    expect_served(owner);
    longest = std::max(longest, std::chrono::nanoseconds(std::chrono::steady_clock::now() - begin));
    std::this_thread::sleep_for(70ms);  // longer than it is waited for, altogether
  }
  EXPECT_EQ(device().connects, connects);
  EXPECT_EQ(device().unused_bytes, 6 * 32 * kMiB);
  EXPECT_LT(longest, scaled(150ms)) << "links here go on meanwhile";
  reader.resume();
  EXPECT_EQ(reader.fetch(object, 7), "ok");
}

// What it is told of is whatever engine is there then.
TEST_F(HixlRecall, a_reader_that_was_not_asked_finds_the_engine_by_itself) {
  const Bytes object = publish_here(7);
  ASSERT_EQ(reader.fetch(object, 7), "ok");
  reader.set_fake("FAKE_HIXL_TRANSFER_DELAY_US", "700000");  // longer than the engine waits for it
  std::thread tainting([this] {
    std::this_thread::sleep_for(100ms);
    taint();
  });
  EXPECT_EQ(reader.fetch(object, 7), "ok") << "its link went away under it";
  tainting.join();
  reader.set_fake("FAKE_HIXL_TRANSFER_DELAY_US", "0");
  EXPECT_EQ(reader.fetch(object, 7), "ok");
}

// ---- Memory that comes late and goes early.

TEST_F(HixlFaults, memory_that_was_registered_after_the_connect_is_read) {
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  std::vector<Region> locals = {make_region(**consumer, 4096, 99, SourceMemory::kDevice, kPeerDevice)};
  std::vector<RemoteRegion> remotes = {peer.region(owner.add_region(4096, 0, SourceMemory::kDevice)).value()};
  ASSERT_THAT(peer.read(whole(peer, locals[0], remotes[0]), kRead), IsOk());
  for (std::uint64_t i = 1; i < 4; ++i) {
    locals.push_back(make_region(**consumer, 4096, 99, SourceMemory::kDevice, kPeerDevice));
    remotes.push_back(peer.region(owner.add_region(4096, i, SourceMemory::kDevice)).value());
    ASSERT_THAT(peer.read(whole(peer, locals[i], remotes[i]), kRead), IsOk());
    EXPECT_TRUE(holds_pattern(locals[i], i));
    EXPECT_EQ(device().connects, 1 + i) << "one new link for both";
    ASSERT_THAT(peer.read(whole(peer, locals[0], remotes[0]), kRead), IsOk());
    EXPECT_TRUE(holds_pattern(locals[0], 0));
  }
  EXPECT_EQ(device().connects, 4u) << "older memory needs none";
  EXPECT_EQ(device().retries, 0u);
}

TEST_F(HixlFaults, transfers_in_flight_end_before_a_link_is_made_anew) {
  expect_served(owner);
  const Bytes old = owner.publish({4096}, 1, SourceMemory::kSlab);
  ASSERT_EQ(owner.reserve(128 * kMiB), "ok");
  const Bytes newer = owner.publish({100 * kMiB}, 2, SourceMemory::kSlab);
  std::optional<Fetch> first;
  {
    const FakeSwitch slow("FAKE_HIXL_TRANSFER_DELAY_US", "300000");
    first = start_stuck(old);
  }
  const Fetch second = start(newer);
  ASSERT_TRUE(second.transfer().wait());
  EXPECT_TRUE(first->transfer().done());
  EXPECT_THAT(first->transfer().result(), IsOk());
  EXPECT_THAT(second.transfer().result(), IsOk());
  EXPECT_EQ(device().retries, 0u) << "nothing was torn from under anybody";
  EXPECT_EQ(device().refreshes, 1u);
}

TEST_F(HixlFaults, memory_stays_registered_for_as_long_as_a_reader_may_be_linked) {
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(4096, 1, SourceMemory::kDevice)).value();
  const Region local = make_region(**consumer, 4096, 99, SourceMemory::kSlab, kPeerDevice);
  ASSERT_THAT(peer.read(whole(peer, local, remote), kRead), IsOk());
  const std::uint64_t regions = owner.fake_count("regions");
  const std::uint64_t blocks = owner.fake_count("live_blocks");
  owner.close_region(0);
  EXPECT_FALSE(eventually([&] { return owner.fake_count("regions") != regions || owner.fake_count("live_blocks") != blocks; }, 200ms));
  EXPECT_THAT(peer.read(whole(peer, local, remote), kRead), FailsWith(Code::kInvalidRegion)) << "but nobody is told of it";
  (*consumer)->close();
  EXPECT_TRUE(eventually([&] { return owner.fake_count("regions") == regions - 1; }));
  EXPECT_TRUE(eventually([&] { return owner.fake_count("live_blocks") == blocks - 1; }));
}

TEST_F(HixlFaults, memory_stays_registered_for_as_long_as_this_process_is_linked) {
  PeerProcess other;
  expect_served(other);
  const Peer peer = (*consumer)->connect(owner.descriptor(), kConnect).value();
  const RemoteRegion remote = peer.region(owner.add_region(4096, 1, SourceMemory::kSlab)).value();
  const std::uint64_t regions = fake_count("regions");
  const std::uint64_t blocks = fake_count("live_blocks");
  {
    const Region local = make_region(**consumer, 4096, 99, SourceMemory::kDevice, kPeerDevice);
    ASSERT_THAT(peer.read(whole(peer, local, remote), kRead), IsOk());
  }
  const auto is_taken_out = [&] { return fake_count("regions") != regions + 1 || fake_count("live_blocks") != blocks + 1; };
  EXPECT_FALSE(eventually(is_taken_out, 200ms));
  owner.kill();
  EXPECT_TRUE(eventually([] { return fake_count("links") == 1; }));
  EXPECT_FALSE(eventually(is_taken_out, 200ms)) << "there is a link to another one";
  other.kill();
  EXPECT_TRUE(eventually([&] { return fake_count("regions") == regions; }));
  EXPECT_TRUE(eventually([&] { return fake_count("live_blocks") == blocks; }));
}

TEST_F(HixlFaults, a_reader_that_is_killed_sets_the_owners_memory_free) {
  (void)owner.add_region(4096, 1, SourceMemory::kDevice);
  const std::uint64_t regions = owner.fake_count("regions");
  const Bytes object = owner.publish({4096}, 2, SourceMemory::kSlab);
  auto reader = std::make_unique<PeerProcess>();
  ASSERT_EQ(reader->fetch(object, 2), "ok");
  expect_fetched(object, {4096}, 2);
  reader->kill();
  EXPECT_TRUE(eventually([&] { return owner.fake_count("inbound_links") == 1; }));
  owner.close_region(0);
  EXPECT_FALSE(eventually([&] { return owner.fake_count("regions") != regions; }, 200ms)) << "the other reader is there";
  (*consumer)->close();
  EXPECT_TRUE(eventually([&] { return owner.fake_count("regions") == regions - 1; }));
}

// ---- Objects that are freed.

class HixlFreed : public HixlFaults, public testing::WithParamInterface<bool> {
 protected:
  Bytes show(const std::vector<std::uint64_t>& sizes, std::uint64_t seed) {
    shown = owner.publish(sizes, seed, SourceMemory::kSlab);
    return GetParam() ? over_tcp(shown) : shown;
  }
  Bytes shown;  // as the owner made it
};

TEST_P(HixlFreed, objects_are_not_read) {
  const Bytes object = show({4096, 100}, 1);
  expect_fetched(object, {4096, 100}, 1);
  ASSERT_TRUE(owner.release(shown));
  EXPECT_THAT(fetch(consumer->objects(), object).status(), FailsWith(Code::kObjectFreed));
}

TEST_P(HixlFreed, objects_are_not_delivered_if_they_went_meanwhile) {
  expect_fetched(show({100}, 1), {100}, 1);
  const Bytes object = show({kMiB}, 1);
  const FakeSwitch slow("FAKE_HIXL_TRANSFER_DELAY_US", "200000");
  const Fetch fetch = start_stuck(object);
  ASSERT_TRUE(owner.release(shown));
  ASSERT_FALSE(fetch.transfer().done());
  ASSERT_TRUE(fetch.transfer().wait());
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kObjectFreed));
}

TEST_P(HixlFreed, objects_are_told_from_those_whose_memory_hixl_does_not_know) {
  expect_fetched(show({100}, 1), {100}, 1);
  const FakeSwitch fails("FAKE_HIXL_FAIL_AT", "*:call:103900");
  const Fetch unknown = start(show({4096}, 2));
  EXPECT_THAT(unknown, EndsWithin(3s));
  EXPECT_THAT(unknown.transfer().result(), FailsWith(Code::kInternal));

  const FakeSwitch slow("FAKE_HIXL_DISCONNECT_DELAY_MS", "300");
  const std::uint64_t refreshes = device().refreshes;
  const Fetch freed = start(show({4096}, 3));
  ASSERT_TRUE(eventually([&] { return device().refreshes > refreshes; }));
  ASSERT_TRUE(owner.release(shown));
  EXPECT_THAT(freed, EndsWithin(3s));
  EXPECT_THAT(freed.transfer().result(), FailsWith(Code::kObjectFreed));
}

INSTANTIATE_TEST_SUITE_P(Checked, HixlFreed, testing::Values(false, true),
                         [](const auto& way) { return way.param ? "by_asking" : "by_mapped_generations"; });

// ---- Closing.

TEST_F(HixlFaults, closing_ends_transfers_in_flight) {
  expect_served(owner);
  const FakeSwitch slow("FAKE_HIXL_TRANSFER_DELAY_US", kNever);
  const Fetch fetch = start_stuck(owner.publish({kMiB}, 1, SourceMemory::kSlab));
  const auto begin = std::chrono::steady_clock::now();
  (*consumer)->close();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, scaled(2s));
  EXPECT_TRUE(fetch.transfer().done());
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kClosed));
  EXPECT_EQ(fake_count("live_engines"), 0u);
  EXPECT_EQ(fake_count("live_blocks"), 0u) << "nothing writes to the block any more, and nobody gets it";
}

TEST_F(HixlFaults, closing_ends_transfers_that_hixl_does_not_let_go_of) {
  expect_served(owner);
  const FakeSwitch slow("FAKE_HIXL_TRANSFER_DELAY_US", kNever);
  const FakeSwitch hangs("FAKE_HIXL_DISCONNECT_DELAY_MS", "3000");
  const Fetch fetch = start_stuck(owner.publish({kMiB}, 1, SourceMemory::kSlab));
  std::thread closer([&] { (*consumer)->close(); });
  EXPECT_THAT(fetch, EndsWithin(2s));
  EXPECT_THAT(fetch.transfer().result(), FailsWith(Code::kClosed));
  EXPECT_EQ((*consumer)->stats().quarantined_bytes, kMiB);
  closer.join();
}

TEST_F(HixlFaults, closing_gives_everything_back) {
  expect_served(owner);
  expect_served(owner, {20 * kMiB, 5});
  (*consumer)->close();
  EXPECT_EQ(fake_count("live_engines"), 0u);
  EXPECT_EQ(fake_count("links"), 0u);
  EXPECT_EQ(fake_count("regions"), 0u);
  EXPECT_EQ(fake_count("live_blocks"), 0u);
  EXPECT_TRUE(eventually([&] { return owner.fake_count("inbound_links") == 0; }));
}

TEST_F(HixlFaults, fetched_tensors_outlive_the_engine) {
  const auto tensors = fetch(consumer->objects(), owner.publish({4096, kMiB}, 1, SourceMemory::kSlab));
  ASSERT_THAT(tensors.status(), IsOk());
  (*consumer)->close();
  owner.kill();
  expect_patterns(*tensors, {4096, kMiB}, 1);
  EXPECT_GT(fake_count("live_blocks"), 0u);
}

}  // namespace
}  // namespace ray_hixl::test
