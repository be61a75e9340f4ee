#include "link/path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ray_hixl::link {
namespace {

using control::TransportKind;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using transport::RemoteMemory;

// Reads nothing, but says what it could read.
class NamedChannel final : public transport::Channel {
 public:
  explicit NamedChannel(bool arena_only) : arena_only_(arena_only) {}
  Status can_read(RemoteMemory memory) const override {
    if (!arena_only_ || memory == RemoteMemory::kSourceArena) return Status::ok();
    return Status(Code::kNotAvailable, "ordinary memory");
  }
  Status reads_now(RemoteMemory memory) const override { return turned_out_.is_ok() ? can_read(memory) : turned_out_; }
  void turn_out(const Status& status) { turned_out_ = status; }
  void submit(std::shared_ptr<transport::Job>) override {}
  void heed_stops() override {}
  void on_notice(const control::Frame&) override {}
  void close(const Status&) override {}

 private:
  const bool arena_only_;
  Status turned_out_;
};

Candidate refused(TransportKind kind, const std::string& why) { return {kind, false, nullptr, why}; }
Candidate usable(TransportKind kind, bool by_address, bool arena_only) {
  return {kind, by_address, std::make_unique<NamedChannel>(arena_only), ""};
}

template <class... Each>
Paths paths(Each... each) {
  std::vector<Candidate> candidates;
  (candidates.push_back(std::move(each)), ...);
  return Paths(std::move(candidates));
}

TEST(Paths, choose_the_first_that_can_read_such_memory) {
  const Paths all = paths(refused(TransportKind::kLocal, "another process"), usable(TransportKind::kShm, true, true),
                          usable(TransportKind::kCma, true, false), usable(TransportKind::kStream, false, false));
  EXPECT_EQ(all.choose(RemoteMemory::kSourceArena)->kind, TransportKind::kShm);
  EXPECT_EQ(all.choose(RemoteMemory::kOrdinary)->kind, TransportKind::kCma);
  EXPECT_THAT(all.refused(RemoteMemory::kSourceArena), ElementsAre(Pair("local", "another process")));
  EXPECT_THAT(all.refused(RemoteMemory::kOrdinary), ElementsAre(Pair("local", "another process"), Pair("shm", "ordinary memory")));
}

TEST(Paths, tell_what_turned_out_and_go_on_choosing_as_before) {
  const Paths all = paths(usable(TransportKind::kHixl, false, false), usable(TransportKind::kStaged, false, false));
  EXPECT_EQ(all.choose_now(RemoteMemory::kDevice)->kind, TransportKind::kHixl);
  static_cast<NamedChannel&>(*all.candidates().front().channel).turn_out(Status(Code::kConnectError, "no link"));
  EXPECT_EQ(all.choose_now(RemoteMemory::kDevice)->kind, TransportKind::kStaged);
  EXPECT_THAT(all.refused(RemoteMemory::kDevice), ElementsAre(Pair("hixl", "no link")));
  EXPECT_EQ(all.choose(RemoteMemory::kDevice)->kind, TransportKind::kHixl) << "who reads asks each pair of devices for itself";
}

TEST(Paths, follow_the_order_of_preference) {
  const Paths stream_first = paths(usable(TransportKind::kStream, false, false), usable(TransportKind::kCma, true, false));
  EXPECT_EQ(stream_first.choose(RemoteMemory::kOrdinary)->kind, TransportKind::kStream);
  EXPECT_THAT(stream_first.refused(RemoteMemory::kOrdinary), IsEmpty());
  EXPECT_FALSE(stream_first.needs_addresses());
}

TEST(Paths, need_addresses_if_any_memory_is_read_by_address) {
  EXPECT_TRUE(paths(usable(TransportKind::kShm, true, true), usable(TransportKind::kStream, false, false)).needs_addresses());
  EXPECT_FALSE(paths(usable(TransportKind::kStream, false, false)).needs_addresses());
}

TEST(Paths, may_be_none) {
  const Paths none = paths(refused(TransportKind::kCma, "another user"), usable(TransportKind::kShm, true, true));
  EXPECT_EQ(none.choose(RemoteMemory::kOrdinary), nullptr);
  EXPECT_THAT(none.refused(RemoteMemory::kOrdinary), ElementsAre(Pair("cma", "another user"), Pair("shm", "ordinary memory")));
  EXPECT_EQ(paths().choose(RemoteMemory::kOrdinary), nullptr);
}

}  // namespace
}  // namespace ray_hixl::link
