// What HIXL knows of a device's memory. HIXL answers as the test says.
#include "transport/hixl/driver/registry.h"

#include <thread>

#include "support/engines.h"
#include "support/event.h"
#include "support/eventually.h"
#include "support/scripted_hixl.h"
#include "support/sizes.h"

namespace ray_hixl::test {
namespace {

using namespace transport::hixl;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Optional;

std::byte* const kMemory = reinterpret_cast<std::byte*>(64 * kHugePage);

class RegistryTest : public testing::Test {
 protected:
  const std::byte* add(std::byte* address, std::uint64_t length) { return registry.add(hixl.get(), address, length).value(); }
  [[nodiscard]] std::optional<std::uint64_t> epoch_of(const std::byte* address, std::uint64_t length) const {
    const auto found = registry.find(address, length);
    return found ? std::optional(found->epoch) : std::nullopt;
  }
  // An owner that tells when it goes.
  std::shared_ptr<const void> owner(std::atomic<bool>& gone) {
    return {&gone, [&gone](const void*) { gone = true; }};
  }

  ScriptedHixl script;
  const std::unique_ptr<Hixl> hixl = script.make_hixl();
  memory::Reaper reaper;
  Registry registry{reaper};
};

TEST_F(RegistryTest, raises_the_epoch_with_every_registration) {
  EXPECT_EQ(registry.epoch(), 0u);
  EXPECT_EQ(add(kMemory, kHugePage), kMemory);
  EXPECT_EQ(registry.epoch(), 1u);
  add(kMemory + 8 * kHugePage, kHugePage);
  EXPECT_EQ(registry.epoch(), 2u);
  EXPECT_THAT(epoch_of(kMemory, kHugePage), Optional(1u));
  EXPECT_THAT(epoch_of(kMemory + 8 * kHugePage + 5, 1), Optional(2u));
  EXPECT_THAT(script.calls(), ElementsAre("register", "register"));
}

TEST_F(RegistryTest, does_not_raise_the_epoch_for_what_hixl_refuses) {
  script.answer("register", {kParamInvalid, kResourceExhausted});
  const Status refused = registry.add(hixl.get(), kMemory, kHugePage).status();
  EXPECT_THAT(refused, FailsWith(Code::kNotAvailable));
  EXPECT_THAT(refused.message(), AllOf(HasSubstr("PARAM_INVALID (103900): the script says so"), HasSubstr("2 MiB")));
  EXPECT_THAT(registry.add(hixl.get(), kMemory, kHugePage).status(), FailsWith(Code::kOutOfMemory));
  EXPECT_EQ(registry.epoch(), 0u);
  EXPECT_EQ(epoch_of(kMemory, 1), std::nullopt);
  add(kMemory, kHugePage);
  EXPECT_EQ(registry.epoch(), 1u);
}

TEST_F(RegistryTest, knows_only_what_one_registration_holds) {
  add(kMemory, kHugePage);
  add(kMemory + kHugePage, kHugePage);
  EXPECT_THAT(epoch_of(kMemory + kHugePage - 1, 1), Optional(1u));
  EXPECT_THAT(epoch_of(kMemory + kHugePage, kHugePage), Optional(2u));
  EXPECT_EQ(epoch_of(kMemory + kHugePage - 1, 2), std::nullopt) << "it spans two";
  EXPECT_EQ(epoch_of(kMemory - 1, 1), std::nullopt);
  EXPECT_EQ(epoch_of(kMemory + 2 * kHugePage, 1), std::nullopt);
  EXPECT_EQ(epoch_of(kMemory + 1, ~std::uint64_t{0}), std::nullopt);
}

TEST_F(RegistryTest, keeps_memory_of_a_device_without_hixl) {
  Registry capped(reaper, kHugePage);
  ASSERT_THAT(capped.add(nullptr, kMemory, 2 * kHugePage).status(), IsOk()) << "the cap is HIXL's";
  EXPECT_EQ(capped.find(kMemory, kHugePage)->epoch, 1u);
  std::atomic<bool> gone = false;
  capped.remove(kMemory, owner(gone));
  capped.collect(nullptr);
  EXPECT_EQ(capped.size(), 0u);
  EXPECT_TRUE(eventually([&] { return gone.load(); }));
  EXPECT_THAT(script.calls(), IsEmpty());
}

TEST_F(RegistryTest, counts_users_of_one_registration) {
  std::atomic<bool> first_gone = false;
  std::atomic<bool> second_gone = false;
  add(kMemory, 4 * kHugePage);
  EXPECT_EQ(add(kMemory + kHugePage, kHugePage), kMemory) << "it is registered already";
  EXPECT_EQ(registry.epoch(), 1u);
  EXPECT_THAT(script.calls(), ElementsAre("register"));
  registry.remove(kMemory, owner(first_gone));
  registry.collect(hixl.get());
  EXPECT_TRUE(eventually([&] { return first_gone.load(); })) << "it is not needed";
  EXPECT_THAT(epoch_of(kMemory, kHugePage), Optional(1u));
  registry.remove(kMemory, owner(second_gone));
  registry.collect(hixl.get());
  EXPECT_TRUE(eventually([&] { return second_gone.load(); }));
  EXPECT_THAT(script.calls(), ElementsAre("register", "deregister"));
  EXPECT_EQ(registry.size(), 0u);
  EXPECT_EQ(registry.epoch(), 1u) << "no link has to be made anew for memory that went";
}

TEST_F(RegistryTest, keeps_the_owner_until_hixl_has_let_go) {
  std::atomic<bool> gone = false;
  add(kMemory, kHugePage);
  registry.remove(kMemory, owner(gone));
  EXPECT_EQ(epoch_of(kMemory, 1), std::nullopt) << "nobody publishes it any more";
  EXPECT_EQ(registry.size(), 1u);
  script.answer("deregister", {kFailed});  // a link is up
  registry.collect(hixl.get());
  EXPECT_EQ(registry.size(), 1u);
  EXPECT_FALSE(gone);
  registry.collect(hixl.get());
  EXPECT_EQ(registry.size(), 0u);
  EXPECT_TRUE(eventually([&] { return gone.load(); }));
}

TEST_F(RegistryTest, takes_up_again_what_waits_for_its_end) {
  std::atomic<bool> gone = false;
  std::atomic<bool> gone_again = false;
  add(kMemory, kHugePage);
  registry.remove(kMemory, owner(gone));
  add(kMemory, kHugePage);
  EXPECT_TRUE(eventually([&] { return gone.load(); })) << "the new user has an owner of its own";
  EXPECT_THAT(epoch_of(kMemory, kHugePage), Optional(1u)) << "links show it already";
  registry.collect(hixl.get());
  EXPECT_THAT(script.calls(), ElementsAre("register"));
  registry.remove(kMemory, owner(gone_again));
  registry.collect(hixl.get());
  EXPECT_TRUE(eventually([&] { return gone_again.load(); }));
}

TEST_F(RegistryTest, refuses_what_overlaps_in_part) {
  add(kMemory, 2 * kHugePage);
  for (const auto& [address, length] : std::vector<std::pair<std::byte*, std::uint64_t>>{{kMemory - kHugePage, 2 * kHugePage},
                                                                                         {kMemory + kHugePage, 2 * kHugePage},
                                                                                         {kMemory - kHugePage, 4 * kHugePage},
                                                                                         {kMemory, 3 * kHugePage}}) {
    EXPECT_THAT(registry.add(hixl.get(), address, length).status(), FailsWith(Code::kInvalidArgument));
  }
  add(kMemory - kHugePage, kHugePage);
  add(kMemory + 2 * kHugePage, kHugePage);
  EXPECT_EQ(registry.size(), 3u);
}

TEST_F(RegistryTest, refuses_more_than_hixl_takes_before_hixl_does) {
  Registry small{reaper, 3 * kHugePage};
  const std::byte* const first = small.add(hixl.get(), kMemory, kHugePage).value();
  ASSERT_THAT(small.add(hixl.get(), kMemory + 4 * kHugePage, kHugePage).status(), IsOk());
  small.remove(first, nullptr);
  EXPECT_EQ(small.unused().registrations, 1u);
  EXPECT_EQ(small.unused().bytes, kHugePage);
  (void)script.take_calls();
  const Status full = small.add(hixl.get(), kMemory + 8 * kHugePage, 2 * kHugePage).status();
  EXPECT_THAT(full, FailsWith(Code::kOutOfMemory));
  EXPECT_THAT(full.message(), HasSubstr("2097152 are in use and 2097152 wait for readers"));
  EXPECT_THAT(script.calls(), IsEmpty());
  EXPECT_THAT(small.add(hixl.get(), kMemory + 4 * kHugePage, 4096).status(), IsOk()) << "it is registered already";
  EXPECT_THAT(small.add(hixl.get(), kMemory + 8 * kHugePage, kHugePage).status(), IsOk());
}

TEST_F(RegistryTest, binds_to_another_engine_what_still_has_a_user) {
  const std::byte* const used = add(kMemory, kHugePage);
  std::atomic<bool> gone = false;
  const std::byte* const unused = add(kMemory + 8 * kHugePage, kHugePage);
  registry.remove(unused, owner(gone));
  registry.unbind(*hixl);
  EXPECT_TRUE(eventually([&] { return gone.load(); }));
  EXPECT_EQ(epoch_of(used, 1), 1u) << "lookups go on";
  (void)script.take_calls();
  script.answer("register", {kFailed});
  EXPECT_THAT(registry.bind(*hixl), FailsWith(Code::kNotAvailable));
  EXPECT_THAT(registry.bind(*hixl), IsOk());
  EXPECT_THAT(script.calls(), ElementsAre("register", "register"));
  EXPECT_EQ(registry.epoch(), 2u);
}

TEST_F(RegistryTest, takes_everything_out_at_the_end) {
  std::atomic<bool> waiting_gone = false;
  std::atomic<bool> used_gone = false;
  add(kMemory, kHugePage);
  add(kMemory + 8 * kHugePage, kHugePage);
  registry.remove(kMemory, owner(waiting_gone));
  script.answer("deregister", {kFailed, kFailed});  // it is about to be finalized
  registry.clear(hixl.get());
  EXPECT_EQ(registry.size(), 0u);
  EXPECT_TRUE(eventually([&] { return waiting_gone.load(); }));
  registry.remove(kMemory + 8 * kHugePage, owner(used_gone));
  EXPECT_TRUE(eventually([&] { return used_gone.load(); }));
}

// An owner may want the GIL.
TEST_F(RegistryTest, drops_owners_on_the_reaper) {
  std::atomic<std::thread::id> dropped_on{};
  const auto make_owner = [&] {
    return std::shared_ptr<const void>(&dropped_on, [&](const void*) { dropped_on = std::this_thread::get_id(); });
  };
  add(kMemory, kHugePage);
  registry.remove(kMemory, make_owner());
  registry.collect(hixl.get());
  EXPECT_TRUE(eventually([&] { return dropped_on.load() != std::thread::id(); }));
  EXPECT_NE(dropped_on.load(), std::this_thread::get_id());
}

}  // namespace
}  // namespace ray_hixl::test
