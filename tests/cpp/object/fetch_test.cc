#include <barrier>
#include <thread>

#include "object/fixtures.h"
#include "support/device_memory.h"
#include "support/eventually.h"
#include "support/sanitized.h"
#include "support/sizes.h"
#include "support/tasks.h"
#include "support/yardstick.h"

namespace ray_hixl::test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

struct Way {
  std::string name;
  std::vector<std::string> transports;
  SourceMemory memory = SourceMemory::kOrdinary;
  std::string published = "alias";
  [[nodiscard]] bool on_device() const { return memory == SourceMemory::kSlab || memory == SourceMemory::kDevice; }
};

class FetchBetweenProcesses : public testing::TestWithParam<Way> {
 protected:
  FetchBetweenProcesses() {
    if (GetParam().on_device()) use_test_cann();
  }
  Bytes show(const std::vector<std::uint64_t>& sizes, std::uint64_t seed) { return process.publish(sizes, seed, GetParam().memory); }
  // Of the memory that fetched tensors lie in.
  [[nodiscard]] ArenaStats landing() const {
    if (!GetParam().on_device()) return consumer->stats().landing;
    const auto devices = consumer->stats().devices;
    return devices.empty() ? ArenaStats{} : devices.front().slabs;
  }
  PeerProcess process{PeerSetup{"local,shm,cma,stream,hixl,staged", {"publish=" + GetParam().published}, {}}};
  const OwnObjects consumer{GetParam().transports};
};

TEST_P(FetchBetweenProcesses, brings_every_tensor) {
  const std::vector<std::uint64_t> sizes = {1, 5 * kMiB + 3, 0, 4096, 700000, 2 * kMiB, 17};
  const Fetch fetch = consumer.objects().fetch(show(sizes, 3), {}, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  EXPECT_THAT(names(fetch.transfer().bytes_by_transport()), ElementsAre(GetParam().transports.front()));
  expect_patterns(fetch.take().value(), sizes, 3);
  EXPECT_EQ(fetch.metadata().size(), sizes.size());
}

TEST_P(FetchBetweenProcesses, tells_how_long_each_phase_took) {
  const Bytes object = show({5 * kMiB}, 3);
  for (int i = 0; i < 2; ++i) {
    const Fetch fetch = consumer.objects().fetch(object, {}, nullptr, kRead);
    ASSERT_TRUE(fetch.transfer().wait());
    const TransferTimes times = fetch.transfer().times();
    EXPECT_LT(times.begun, times.linked);
    EXPECT_LT(times.linked, times.moving);
    EXPECT_LT(times.moving, times.moved);
    EXPECT_LT(times.moved, times.ended);
  }
}

TEST_P(FetchBetweenProcesses, brings_ten_thousand_tensors) {
  const std::vector<std::uint64_t> sizes(10000, 333);
  expect_patterns(fetch(consumer.objects(), show(sizes, 1)).value(), sizes, 1);
}

TEST_P(FetchBetweenProcesses, fills_target_buffers) {
  const std::vector<std::uint64_t> sizes = {1000, 0, 2 * kMiB};
  const SourceMemory kind = GetParam().on_device() ? SourceMemory::kDevice : SourceMemory::kOrdinary;
  const Region memory = make_region(*consumer, 1000 + 2 * kMiB, 99, kind, 0);
  const auto part = [&](std::uint64_t offset, std::uint64_t length) {
    MemoryRange range = memory.range();
    range.address += offset;
    range.length = length;
    return range;
  };
  const std::vector<MemoryRange> targets = {part(0, 1000), part(0, 0), part(1000, 2 * kMiB)};
  const std::uint64_t before = landing().allocations;
  const Fetch fetch = consumer.objects().fetch(show(sizes, 8), targets, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  expect_patterns(fetch.take().value(), sizes, 8);
  EXPECT_TRUE(holds_pattern(memory, 1000, 2 * kMiB, 10));
  EXPECT_EQ(landing().allocations, before);
}

// Two of the three, with every way between kinds of memory.
TEST_P(FetchBetweenProcesses, fills_target_buffers_in_any_memory) {
  use_test_cann();
  const OwnObjects reader;
  const std::vector<std::uint64_t> sizes = {1000, 2 * kMiB, 2 * kMiB};
  const SourceMemory other = GetParam().on_device() ? SourceMemory::kOrdinary : SourceMemory::kSlab;
  const Region host = make_region(*reader, sizes[0], 99, SourceMemory::kOrdinary, 0);
  const Region device = make_region(*reader, sizes[1], 99, SourceMemory::kSlab, 0);
  const Region crossing = make_region(*reader, sizes[2], 99, other, 0);
  const Fetch fetch = reader.objects().fetch(show(sizes, 8), std::vector{host.range(), device.range(), crossing.range()}, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  expect_patterns(fetch.take().value(), sizes, 8);
  EXPECT_THAT(names(fetch.transfer().bytes_by_transport()), testing::Contains("staged"));
}

TEST_P(FetchBetweenProcesses, says_freed_once_the_object_was_released) {
  const Bytes metadata = show({4096, 4096}, 1);
  ASSERT_TRUE(fetch(consumer.objects(), metadata).is_ok());
  ASSERT_TRUE(process.release(metadata));
  const Status status = fetch(consumer.objects(), metadata).status();
  EXPECT_THAT(status, FailsWith(Code::kObjectFreed));
  EXPECT_THAT(status.message(), AllOf(HasSubstr("fetching object "), HasSubstr("engine of process")));
  expect_patterns(fetch(consumer.objects(), show({4096}, 2)).value(), {4096}, 2);  // the next one is fine
}

TEST_P(FetchBetweenProcesses, delivers_whole_objects_or_errors_while_the_owner_frees_them) {
  const std::vector<std::uint64_t> sizes = {300000, 2 * kMiB, 50};
  for (std::uint64_t round = 0; round < 20; ++round) {
    const Bytes metadata = show(sizes, round);
    const Fetch fetch = consumer.objects().fetch(metadata, {}, nullptr, kRead);
    ASSERT_TRUE(process.release(metadata));
    ASSERT_TRUE(fetch.transfer().wait());
    const auto tensors = fetch.take();
    if (tensors.is_ok()) {
      expect_patterns(*tensors, sizes, round);
    } else {
      EXPECT_THAT(tensors.status(), FailsWith(Code::kObjectFreed));
    }
  }
  EXPECT_EQ(process.stat("objects"), 0u);
}

TEST_P(FetchBetweenProcesses, leaves_nothing_behind) {
  const std::vector<std::uint64_t> sizes = {1'100'000, 100, 5000};  // more than is copied in the calling thread
  const auto round = [&](std::uint64_t seed) {
    const Bytes metadata = show(sizes, seed);
    expect_patterns(fetch(consumer.objects(), metadata).value(), sizes, seed);
    EXPECT_EQ(landing().live_blocks, 0u) << "of what was dropped: the next fetch would take fresh memory";
    ASSERT_TRUE(process.release(metadata));
    const Fetch failed = consumer.objects().fetch(metadata, {}, nullptr, kRead);
    ASSERT_TRUE(failed.transfer().wait());
    EXPECT_THAT(failed.transfer().result(), FailsWith(Code::kObjectFreed));
    EXPECT_EQ(landing().live_blocks, 0u) << "of what failed, though its handle is still there";
  };
  for (std::uint64_t i = 0; i < 20; ++i) round(i);
  const auto fds = open_files();
  const auto threads = count_threads();
  for (std::uint64_t i = 0; i < 100; ++i) round(i);
  EXPECT_EQ(open_files(), fds);
  EXPECT_EQ(count_threads(), threads);
  const Stats stats = consumer->stats();
  EXPECT_EQ(landing().used_bytes, 0u);
  EXPECT_EQ(stats.quarantined_bytes, 0u);
  EXPECT_EQ(stats.links, 1u);
  EXPECT_EQ(process.stat("objects"), 0u);
}

TEST_P(FetchBetweenProcesses, ends_soon_when_the_owner_dies) {
  const Bytes metadata = show({4096}, 1);
  ASSERT_TRUE(fetch(consumer.objects(), metadata).is_ok());
  process.kill();
  const Status status = fetch(consumer.objects(), metadata).status();
  EXPECT_TRUE(status.code() == Code::kPeerGone || status.code() == Code::kConnectError) << status.to_string();
  EXPECT_THAT(status.message(), HasSubstr("engine of process"));
}

INSTANTIATE_TEST_SUITE_P(Ways, FetchBetweenProcesses,
                         testing::Values(Way{"shm_from_a_source_arena", {"shm"}, SourceMemory::kArena},
                                         Way{"cma_from_ordinary_memory", {"cma"}}, Way{"stream_from_ordinary_memory", {"stream"}},
                                         Way{"stream_from_a_source_arena", {"stream"}, SourceMemory::kArena},
                                         Way{"shm_from_a_snapshot", {"shm"}, SourceMemory::kOrdinary, "snapshot"},
                                         Way{"stream_from_a_snapshot", {"stream"}, SourceMemory::kArena, "snapshot"},
                                         Way{"hixl_from_a_slab", {"hixl"}, SourceMemory::kSlab},
                                         Way{"hixl_packed", {"hixl"}, SourceMemory::kDevice},
                                         Way{"hixl_from_a_snapshot", {"hixl"}, SourceMemory::kSlab, "snapshot"}),
                         [](const auto& way) { return way.param.name; });

TEST(Fetch, within_one_engine_copies) {
  const OwnObjects both;
  const std::vector<std::uint64_t> sizes = {100, 3 * kMiB};
  const Bytes metadata = publish(both.objects(), sizes, 1);
  const Fetch fetch = both.objects().fetch(metadata, {}, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  expect_patterns(fetch.take().value(), sizes, 1);
  EXPECT_THAT(names(fetch.transfer().bytes_by_transport()), ElementsAre("local"));
  both.objects().release(metadata);
  EXPECT_THAT(test::fetch(both.objects(), metadata).status(), FailsWith(Code::kObjectFreed));
}

TEST(Fetch, of_an_object_without_bytes_is_checked_like_any_other) {
  const OwnObjects source;
  const OwnObjects consumer;
  const Bytes no_tensors = publish(source.objects(), {}, 1);
  const Bytes empty_tensors = publish(source.objects(), {0, 0}, 1);
  EXPECT_TRUE(fetch(consumer.objects(), no_tensors)->empty());
  const auto tensors = fetch(consumer.objects(), empty_tensors).value();
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].address, nullptr);
  EXPECT_EQ(tensors[0].block, nullptr);
  EXPECT_TRUE(source.objects().release(no_tensors));
  EXPECT_TRUE(source.objects().release(empty_tensors));
  EXPECT_THAT(fetch(consumer.objects(), no_tensors).status(), FailsWith(Code::kObjectFreed));
  EXPECT_THAT(fetch(consumer.objects(), empty_tensors).status(), FailsWith(Code::kObjectFreed));
}

TEST(Fetch, of_an_object_without_bytes_fails_once_its_owner_is_dead) {
  PeerProcess process;
  const OwnObjects consumer;
  const Bytes metadata = process.publish({0}, 1);
  ASSERT_THAT(fetch(consumer.objects(), metadata).status(), IsOk());
  process.kill();
  EXPECT_THAT(fetch(consumer.objects(), metadata).status().code(), AnyOf(Code::kPeerGone, Code::kConnectError));
}

TEST(Fetch, delivers_the_same_tensor_as_often_as_it_was_published) {
  const OwnObjects both;
  const auto memory = std::make_shared<Bytes>(make_pattern(5000, 4));
  const std::vector<Layout> layouts = {uint8_layout(5000)};
  const SourceTensor tensor{{memory->data(), 5000}, 0};
  const Bytes metadata = both.objects().publish(layouts, std::vector<SourceTensor>{tensor, tensor}, memory);
  const auto tensors = fetch(both.objects(), metadata).value();
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_NE(tensors[0].address, tensors[1].address);
  EXPECT_TRUE(is_pattern({tensors[0].address, 5000}, 4));
  EXPECT_TRUE(is_pattern({tensors[1].address, 5000}, 4));
}

TEST(Fetch, of_an_error_ends_with_it) {
  const OwnObjects source;
  const OwnObjects consumer;
  const Bytes metadata = source.objects().publish_error({}, {}, Status(Code::kUnsupportedTensor, "tensor 3 is sparse"));
  const Status status = fetch(consumer.objects(), metadata).status();
  EXPECT_THAT(status, FailsWith(Code::kUnsupportedTensor));
  EXPECT_THAT(status.message(), HasSubstr("tensor 3 is sparse"));
}

TEST(Fetch, of_garbage_fails) {
  const OwnObjects consumer;
  for (const Bytes& bytes : {Bytes{}, make_pattern(300, 2)}) {
    const Fetch fetch = consumer.objects().fetch(bytes, {}, nullptr, kRead);
    ASSERT_TRUE(fetch.transfer().done());
    EXPECT_THAT(fetch.take().status(), FailsWith(Code::kInvalidArgument));
    EXPECT_EQ(fetch.metadata().size(), 0u);
  }
}

TEST(Fetch, into_wrong_targets_fails_and_writes_nothing) {
  const OwnObjects source;
  const OwnObjects consumer;
  Bytes memory(200, std::byte{9});
  const std::vector<MemoryRange> targets = {{memory.data(), 100}, {memory.data() + 100, 99}};
  const Fetch fetch = consumer.objects().fetch(publish(source.objects(), {100, 100}, 1), targets, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  EXPECT_THAT(fetch.take().status(), FailsWith(Code::kInvalidArgument));
  EXPECT_EQ(memory, Bytes(200, std::byte{9}));
}

TEST(Fetch, keeps_the_owner_of_its_targets_until_it_ended) {
  PeerProcess process("stream");
  const OwnObjects consumer({"stream"});
  const Bytes metadata = process.publish({1 * kMiB}, 1);
  auto memory = std::make_shared<Bytes>(1 * kMiB);
  const std::weak_ptr<Bytes> watch = memory;
  const MemoryRange target{memory->data(), memory->size()};
  ASSERT_TRUE(fetch(consumer.objects(), metadata).is_ok());
  process.pause();
  const Fetch fetch = consumer.objects().fetch(metadata, {&target, 1}, std::move(memory), kRead);
  EXPECT_FALSE(watch.expired());
  EXPECT_THAT(fetch.take().status(), FailsWith(Code::kInvalidArgument)) << "it has not ended";
  process.resume();
  ASSERT_TRUE(fetch.transfer().wait());
  EXPECT_THAT(fetch.take().status(), IsOk());
  EXPECT_TRUE(eventually([&] { return watch.expired(); }));  // the reaper drops it
}

TEST(Fetch, gives_its_tensors_once) {
  const OwnObjects both;
  const Fetch fetch = both.objects().fetch(publish(both.objects(), {10}, 1), {}, nullptr, kRead);
  ASSERT_TRUE(fetch.transfer().wait());
  EXPECT_TRUE(fetch.take().is_ok());
  EXPECT_THAT(fetch.take().status(), FailsWith(Code::kInvalidArgument));
}

TEST(Fetch, tensors_outlive_the_engine) {
  std::vector<FetchedTensor> tensors;
  {
    const OwnObjects both;
    tensors = fetch(both.objects(), publish(both.objects(), {100, 2 * kMiB}, 1)).value();
  }
  expect_patterns(tensors, {100, 2 * kMiB}, 1);
}

TEST(Fetch, memory_is_recycled) {
  const OwnObjects both;
  const Bytes metadata = publish(both.objects(), {5 * kMiB}, 1);  // two do not fit into the first segment
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(fetch(both.objects(), metadata).is_ok());
    ASSERT_TRUE(eventually([&] { return both->stats().landing.used_bytes == 0; }));
  }
  EXPECT_EQ(both->stats().landing.segments, 1u);
  EXPECT_EQ(both->stats().landing.recycled, 4u);
}

TEST(Fetch, ends_at_its_deadline_while_connecting) {
  PeerProcess process;
  const OwnObjects consumer;
  const Bytes metadata = process.publish({100}, 1);
  process.pause();
  const auto start = std::chrono::steady_clock::now();
  const Fetch fetch = consumer.objects().fetch(metadata, {}, nullptr, 200ms);
  ASSERT_TRUE(fetch.transfer().wait());
  EXPECT_LT(std::chrono::steady_clock::now() - start, scaled(5s));
  const Code code = fetch.take().status().code();
  EXPECT_TRUE(code == Code::kConnectError || code == Code::kTransferTimeout);
}

TEST(Fetch, can_be_cancelled_while_connecting) {
  PeerProcess process;
  const OwnObjects consumer;
  const Bytes metadata = process.publish({100}, 1);
  process.pause();
  const Fetch fetch = consumer.objects().fetch(metadata, {}, nullptr, kRead);
  fetch.transfer().cancel();
  ASSERT_TRUE(fetch.transfer().wait(kConnect));
  EXPECT_THAT(fetch.take().status(), FailsWith(Code::kCancelled));
  EXPECT_EQ(consumer->stats().transfers_in_flight, 0u);
}

TEST(Fetch, ends_when_the_engine_is_closed_while_connecting) {
  PeerProcess process;
  const OwnObjects consumer;
  const Bytes metadata = process.publish({100}, 1);
  process.pause();
  const Fetch fetch = consumer.objects().fetch(metadata, {}, nullptr, kRead);
  consumer->close();
  ASSERT_TRUE(fetch.transfer().done());
  EXPECT_THAT(fetch.take().status(), FailsWith(Code::kClosed));
}

TEST(Fetch, timed_out_gives_its_memory_back) {
  PeerProcess process("stream");
  const OwnObjects consumer({"stream"});
  const Bytes metadata = process.publish({8 * kMiB}, 1);
  ASSERT_TRUE(fetch(consumer.objects(), metadata).is_ok());
  process.pause();
  EXPECT_THAT(
      [&] {
        const Fetch fetch = consumer.objects().fetch(metadata, {}, nullptr, 100ms);
        EXPECT_TRUE(fetch.transfer().wait());
        return fetch.take().status();
      }(),
      FailsWith(Code::kTransferTimeout));
  EXPECT_TRUE(eventually([&] { return consumer->stats().landing.live_blocks == 0; }));  // once the connection is down
  EXPECT_EQ(consumer->stats().quarantined_bytes, 0u);
  process.resume();
  expect_patterns(fetch(consumer.objects(), metadata).value(), {8 * kMiB}, 1);
}

// Also while the handles live on, as they do in the traceback of an exception.
TEST(Fetch, timed_out_while_the_owner_is_asked_holds_nothing) {
  PeerProcess process("cma");
  const OwnObjects consumer({"cma"});
  ASSERT_TRUE(fetch(consumer.objects(), process.publish({100}, 1)).is_ok());
  const Bytes metadata = process.publish({8 * kMiB}, 1);
  process.pause();
  std::vector<Fetch> fetches;
  for (int i = 0; i < 5; ++i) {
    fetches.push_back(consumer.objects().fetch(metadata, {}, nullptr, 50ms));
    EXPECT_TRUE(fetches.back().transfer().wait());
    EXPECT_THAT(fetches.back().take().status(), FailsWith(Code::kTransferTimeout));
  }
  EXPECT_TRUE(eventually([&] { return consumer->stats().landing.used_bytes == 0; }));
  EXPECT_EQ(consumer->stats().quarantined_bytes, 0u);
  process.resume();
  expect_patterns(fetch(consumer.objects(), metadata).value(), {8 * kMiB}, 1);
}

TEST(Fetch, timed_out_while_it_connects_holds_nothing) {
  PeerProcess process;
  const OwnObjects consumer;
  const Bytes metadata = process.publish({8 * kMiB}, 1);
  process.pause();
  const Fetch fetch = consumer.objects().fetch(metadata, {}, nullptr, 50ms);
  EXPECT_TRUE(fetch.transfer().wait());
  EXPECT_TRUE(eventually([&] { return consumer->stats().landing.used_bytes == 0; }));
  process.resume();
}

// The owner's loop has other tests; this is the reader's, whatever it reads by.
class FetchOfManyTensors : public testing::TestWithParam<const char*> {};

TEST_P(FetchOfManyTensors, keeps_the_loop_free) {
  const std::string transport = GetParam();
  const std::vector<std::uint64_t> sizes(unless_sanitized(transport == "shm" ? 300'000 : 1'000'000, 60'000), 4);
  double longest_turn_s = 0;
  // Work in proportion to the object takes its time in each of them; a page that the system is slow to give, in one.
  for (int attempt = 0; attempt < 3; ++attempt) {
    PeerProcess process(transport);
    const OwnObjects consumer({transport});
    const Bytes metadata = process.publish(sizes, 1, transport == "shm" ? SourceMemory::kArena : SourceMemory::kOrdinary);
    {
      const auto tensors = fetch(consumer.objects(), metadata);
      ASSERT_THAT(tensors.status(), IsOk());
      ASSERT_EQ(tensors->size(), sizes.size());
      EXPECT_TRUE(holds_pattern(range_of(tensors->back()), 1 + sizes.size() - 1));
    }
    process.kill();  // nor is what it held let go there
    EXPECT_TRUE(eventually([&] { return consumer->stats().links == 0; }));
    longest_turn_s = consumer->stats().longest_turn_s;
    if (std::chrono::duration<double>(longest_turn_s) < scaled_cpu(5ms)) return;
  }
  ADD_FAILURE() << "a turn of the loop took " << longest_turn_s << " s";
}

INSTANTIATE_TEST_SUITE_P(Over, FetchOfManyTensors, testing::Values("cma", "shm", "stream"),
                         [](const auto& way) { return std::string(way.param); });

TEST(Fetch, says_nothing_secret) {
  const OwnObjects source;
  const OwnObjects consumer;
  const Bytes metadata = publish(source.objects(), {10}, 1);
  const Handle handle = Metadata::decode(metadata)->handle();
  ASSERT_TRUE(source.objects().release(metadata));
  const std::string message = fetch(consumer.objects(), metadata).status().message();
  EXPECT_THAT(message, HasSubstr("object " + std::to_string(handle.slot) + "." + std::to_string(handle.generation)));
  EXPECT_THAT(message, Not(HasSubstr(std::to_string(handle.key))));
}

TEST(Fetch, the_owner_of_the_source_is_dropped_after_release_and_the_last_reader) {
  const OwnObjects source;
  PeerProcess reader("stream");
  std::weak_ptr<const void> watch;
  const Bytes metadata = publish(source.objects(), {2 * kMiB}, 5, &watch);
  EXPECT_EQ(reader.fetch(metadata, 5), "ok");
  EXPECT_FALSE(watch.expired());
  ASSERT_TRUE(source.objects().release(metadata));
  EXPECT_TRUE(eventually([&] { return watch.expired(); }));  // the reaper drops it
  EXPECT_THAT(reader.fetch(metadata, 5), HasSubstr("object_freed"));
}

TEST(Fetch, by_many_threads_of_many_objects) {
  constexpr std::uint64_t kThreads = 6;
  PeerProcess process;
  const OwnObjects consumer;
  const std::vector<std::uint64_t> sizes = {100, 200000, 0, 1 * kMiB};
  std::vector<Bytes> objects;
  for (std::uint64_t i = 0; i < kThreads; ++i)
    objects.push_back(process.publish(sizes, i, i % 2 == 0 ? SourceMemory::kArena : SourceMemory::kOrdinary));
  std::barrier start(kThreads);
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      for (int n = 0; n < 10; ++n) {
        const auto fetched = fetch(consumer.objects(), objects[i]);
        ASSERT_THAT(fetched.status(), IsOk());
        expect_patterns(*fetched, sizes, i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(consumer->stats().links, 1u);
  EXPECT_TRUE(eventually([&] { return consumer->stats().landing.live_blocks == 0; }));  // jobs let go a moment after they ended
}

}  // namespace
}  // namespace ray_hixl::test
