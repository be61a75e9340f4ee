// Which device tensors come to, where no framework is asked.
#include "transport/hixl/processes.h"

namespace ray_hixl::test {
namespace {

class HixlLanding : public HixlProcesses {
 protected:
  // Fetches three tensors of the owner's kPeerDevice, and tells the devices that they came to.
  [[nodiscard]] Result<std::vector<std::int32_t>> devices(const LandingWish& wish, const OwnObjects& by) {
    const std::vector<std::uint64_t> sizes{4096, 100, 70000};
    const Fetch fetch = by.objects().fetch(owner.publish(sizes, 1, SourceMemory::kSlab), {}, nullptr, kRead, nullptr, wish);
    EXPECT_TRUE(fetch.transfer().wait(kRead));
    Result<std::vector<FetchedTensor>> tensors = fetch.take();
    if (!tensors.is_ok()) return tensors.status();
    expect_patterns(*tensors, sizes, 1);
    std::vector<std::int32_t> found;
    for (const FetchedTensor& tensor : *tensors) found.push_back(tensor.device);
    return found;
  }

  PeerProcess owner{"shm,stream,hixl,staged"};
};

TEST_F(HixlLanding, is_on_the_device_of_the_same_index_without_a_wish) {
  EXPECT_THAT(devices({}, *consumer).value(), testing::ElementsAre(kPeerDevice, kPeerDevice, kPeerDevice));
}

TEST_F(HixlLanding, is_on_the_tensors_device_before_the_calls) {
  EXPECT_THAT(devices({0, {}}, *consumer).value(), testing::ElementsAre(0, 0, 0));
  EXPECT_THAT(devices({0, {-1, 1, -1}}, *consumer).value(), testing::ElementsAre(0, 1, 0));
  EXPECT_THAT(devices({{}, {0, -1, 0}}, *consumer).value(), testing::ElementsAre(0, kPeerDevice, 0));
}

TEST_F(HixlLanding, is_on_the_calls_device_before_the_options) {
  Options options;
  options.landing_device = "npu:0";
  const OwnObjects other(options);
  EXPECT_THAT(devices({}, other).value(), testing::ElementsAre(0, 0, 0));
  EXPECT_THAT(devices({1, {}}, other).value(), testing::ElementsAre(1, 1, 1));
}

// By staged, beside tensors that come to a device by HIXL.
TEST_F(HixlLanding, is_in_host_memory_where_that_is_wished_for) {
  const std::vector<std::uint64_t> sizes{4096, 3 * kMiB + 5, 70000};
  Options options;
  options.landing_device = "cpu";
  const OwnObjects chosen(options);
  const auto fetched = [&](const LandingWish& wish, const OwnObjects& by) {
    const Fetch fetch = by.objects().fetch(owner.publish(sizes, 1, SourceMemory::kSlab), {}, nullptr, kRead, nullptr, wish);
    EXPECT_TRUE(fetch.transfer().wait(kRead));
    std::vector<FetchedTensor> tensors = fetch.take().value();
    expect_patterns(tensors, sizes, 1);
    std::vector<MemoryKind> kinds;
    for (const FetchedTensor& tensor : tensors) kinds.push_back(tensor.kind);
    return std::pair(kinds, names(fetch.transfer().bytes_by_transport()));
  };
  using enum MemoryKind;
  constexpr std::int32_t kOnHost = LandingWish::kHost;
  const OwnObjects free;
  EXPECT_EQ(fetched({kOnHost, {}}, free), std::pair(std::vector{kHost, kHost, kHost}, std::vector<std::string>{"staged"}));
  EXPECT_EQ(fetched({}, chosen), std::pair(std::vector{kHost, kHost, kHost}, std::vector<std::string>{"staged"}));
  EXPECT_EQ(fetched({kOnHost, {-1, 0, -1}}, free),
            std::pair(std::vector{kHost, kDevice, kHost}, std::vector<std::string>{"hixl", "staged"}));
}

TEST_F(HixlLanding, is_refused_where_there_is_no_such_device) {
  EXPECT_THAT(devices({77, {}}, *consumer).status(), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(devices({{}, {77, -1, -1}}, *consumer).status(), FailsWith(Code::kInvalidArgument));
  EXPECT_THAT(devices({{}, {0}}, *consumer).status(), FailsWith(Code::kInvalidArgument)) << "one for each tensor";
  Options options;
  options.landing_device = "npu:77";
  EXPECT_THAT(devices({}, OwnObjects(options)).status(), FailsWith(Code::kInvalidArgument));
}

}  // namespace
}  // namespace ray_hixl::test
