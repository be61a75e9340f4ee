// NPUs that have no engine of HIXL: the runtime alone serves them, what peers read is staged, and everybody who asks is told why.
#include <mutex>

#include "base/log.h"
#include "transport/hixl/delivery.h"
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;
using testing::StartsWith;

const std::vector<std::uint64_t> kSizes{4096, 100, 3 * kMiB};
const std::string kWithStaged = "shm,stream,hixl,staged";

// Lines at warning and above for as long as it lives.
class Warnings {
 public:
  Warnings() {
    set_log_sink([this](LogLevel level, std::string_view line) {
      const std::lock_guard lock(mutex_);
      if (level >= LogLevel::kWarning) lines_.emplace_back(line);
    });
  }
  ~Warnings() { set_log_sink(nullptr); }
  Warnings(const Warnings&) = delete;
  Warnings& operator=(const Warnings&) = delete;
  [[nodiscard]] std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

PathInfo device_path(const Engine& engine, const Bytes& owner) {
  return engine.connect(owner, kConnect).value().path(MemoryKind::kDevice, MemoryKind::kDevice).value();
}

struct Without {
  std::string name;
  PeerSetup setup;
  std::string why;
};
void PrintTo(const Without& without, std::ostream* out) { *out << without.name; }

const PeerSetup kNoLibrary{kWithStaged, {}, {"RAY_HIXL_CANN_PATH=" FAKE_CANN_LIB}};
const PeerSetup kNoStart{kWithStaged, {}, {"FAKE_HIXL_FAIL_INITIALIZE=kernel"}};
const PeerSetup kRuledOut{"shm,stream,staged", {}, {}};

class WithoutHixl : public testing::TestWithParam<Without> {
 protected:
  WithoutHixl() { use_test_cann(); }
  void SetUp() override { need_fake_cann(); }
};

TEST_P(WithoutHixl, an_npu_publishes_and_is_read) {
  PeerProcess owner(GetParam().setup);
  Warnings warnings;
  const OwnObjects reader;
  for (const SourceMemory memory : {SourceMemory::kSlab, SourceMemory::kDevice}) {
    const Bytes object = owner.publish(kSizes, 1, memory);
    for (int i = 0; i < 2; ++i) {
      const auto tensors = fetch(reader.objects(), object);
      ASSERT_THAT(tensors.status(), IsOk());
      expect_patterns(*tensors, kSizes, 1);
    }
  }
  EXPECT_THAT(names(reader->stats().fetched), ElementsAre("staged"));
  const PathInfo path = device_path(*reader, owner.descriptor());
  EXPECT_EQ(path.transport, "staged");
  EXPECT_THAT(path.refused, Contains(Pair("hixl", HasSubstr(GetParam().why))));
  if (GetParam().name == "ruled_out") return;
  EXPECT_THAT(warnings.lines(), ElementsAre(AllOf(StartsWith("NPU memory of the engine"), HasSubstr("npu:1 here and npu:1 there"),
                                                  HasSubstr(GetParam().why))));
}

TEST_P(WithoutHixl, an_npu_reads) {
  const OwnObjects owner{Options{}};
  const auto own = std::make_shared<const Region>(owner->allocate(3 * kMiB, MemoryKind::kDevice, kPeerDevice).value());
  fill(own->range(), 7);
  const std::vector<Layout> layouts{uint8_layout(3 * kMiB)};
  const std::vector<SourceTensor> tensors{{own->range(), 0}};
  const Bytes object = owner.objects().publish(layouts, tensors, own);
  PeerProcess reader(GetParam().setup);
  for (int i = 0; i < 2; ++i) EXPECT_EQ(reader.fetch(object, 7), "ok");
  EXPECT_EQ(owner->stats().served_bytes, 2 * 3 * kMiB);
}

INSTANTIATE_TEST_SUITE_P(For, WithoutHixl,
                         testing::Values(Without{"no_library", kNoLibrary, "cannot load libcann_hixl.so"},
                                         Without{"no_start", kNoStart, "found by ASCEND_HOME_PATH"},
                                         Without{"ruled_out", kRuledOut, "the peer runs without it"}),
                         [](const auto& without) { return without.param.name; });

class HixlRuledOut : public testing::Test {
 protected:
  HixlRuledOut() { use_test_cann(); }
  void SetUp() override { need_fake_cann(); }
};

TEST_F(HixlRuledOut, starts_no_engine_and_says_so) {
  const std::uint64_t started = fake_hixl_calls("Initialize");
  Warnings warnings;
  const OwnEngine engine({"local", "stream", "staged"});
  const Region slab = engine->allocate(kMiB, MemoryKind::kDevice, kPeerDevice).value();
  EXPECT_EQ(fake_hixl_calls("Initialize"), started);
  const Stats stats = engine->stats();
  ASSERT_EQ(stats.devices.size(), 1u);
  EXPECT_THAT(stats.devices.front().unlinkable, HasSubstr("Options.transports does not allow hixl"));
  EXPECT_EQ(stats.devices.front().registrations, 1u);
  EXPECT_THAT(warnings.lines(), IsEmpty()) << "that is as it was asked for";
}

TEST_F(HixlRuledOut, gives_registered_memory_back_at_once) {
  const OwnEngine engine({"local", "stream", "staged"});
  DeviceMemory own = device_memory(kMiB, kPeerDevice);
  const std::weak_ptr<const void> watch = own.owner;
  {
    const Region region = engine->register_memory(own.range, false, std::exchange(own.owner, nullptr)).value();
    EXPECT_TRUE(engine->is_registered(own.range));
  }
  EXPECT_TRUE(eventually([&] { return watch.expired(); }));
  EXPECT_FALSE(engine->is_registered(own.range));
}

// Its memory could go nowhere.
TEST_F(HixlRuledOut, is_an_error_where_staged_is_ruled_out_too) {
  const FakeSwitch fails("FAKE_HIXL_FAIL_INITIALIZE", "kernel");
  const OwnEngine by_hixl(without_staged());
  const Status status = by_hixl->allocate(kMiB, MemoryKind::kDevice, kPeerDevice).status();
  EXPECT_THAT(status, FailsWith(Code::kNotAvailable));
  EXPECT_THAT(status.message(), AllOf(StartsWith("cannot use npu:1: HIXL does not start"), HasSubstr("found by ASCEND_HOME_PATH")));
  Warnings warnings;
  const OwnEngine staged;
  EXPECT_THAT(staged->allocate(kMiB, MemoryKind::kDevice, kPeerDevice).status(), IsOk());
  EXPECT_THAT(warnings.lines(), ElementsAre(AllOf(StartsWith("npu:1 has no HIXL"), HasSubstr("found by ASCEND_HOME_PATH"))));
}

TEST(Unlinked, is_news_once_and_again_after_a_link) {
  transport::hixl::Unlinked unlinked;
  const transport::hixl::Ends devices{0, 1, false, false};
  const transport::hixl::Ends hosts{0, 1, true, false};
  const Status why(Code::kConnectError, "no link");
  EXPECT_FALSE(unlinked.remove(devices)) << "it never was";
  EXPECT_TRUE(unlinked.add(hosts, why, Deadline::never()));
  EXPECT_THAT(unlinked.find(devices), IsOk()) << "host memory is another matter";
  EXPECT_THAT(unlinked.any(false), IsOk());
  EXPECT_THAT(unlinked.any(true).message(), StartsWith("host memory pinned by npu:0 here and npu:1 there: no link"));
  EXPECT_TRUE(unlinked.add(devices, why, Deadline::in(0s)));
  EXPECT_THAT(unlinked.find(devices), IsOk()) << "it was forgotten";
  EXPECT_FALSE(unlinked.add(devices, why, Deadline::never())) << "it was so already";
  EXPECT_THAT(unlinked.any(false), FailsWith(Code::kConnectError));
  EXPECT_TRUE(unlinked.remove(devices));
  EXPECT_TRUE(unlinked.add(devices, why, Deadline::never()));
}

// What a link tells only when it is to be made: one line, and path() says so for as long as it is remembered.
TEST_F(HixlRuledOut, is_told_once_where_hixl_does_not_link) {
  PeerProcess owner(kWithStaged);
  const OwnObjects reader{Options{}};
  const Bytes object = owner.publish(kSizes, 1, SourceMemory::kSlab);
  EXPECT_EQ(device_path(*reader, owner.descriptor()).transport, "hixl");
  Warnings warnings;
  const FakeSwitch refuses("FAKE_HIXL_REFUSE_CONNECT", "3");
  for (int i = 0; i < 3; ++i) expect_patterns(fetch(reader.objects(), object).value(), kSizes, 1);
  EXPECT_THAT(names(reader->stats().fetched), ElementsAre("staged"));
  const PathInfo path = device_path(*reader, owner.descriptor());
  EXPECT_EQ(path.transport, "staged");
  const auto why = AllOf(HasSubstr("npu:1 here and npu:1 there"), HasSubstr("FAILED (503900)"), HasSubstr("Lower hixl_max_links"));
  EXPECT_THAT(path.refused, Contains(Pair("hixl", why)));
  EXPECT_THAT(warnings.lines(), ElementsAre(AllOf(why, HasSubstr("tried again in 60 s"))));
}

}  // namespace
}  // namespace ray_hixl::test
