#include "transport/mappings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/event.h"
#include "support/eventually.h"
#include "support/held_port.h"

namespace ray_hixl::transport {
namespace {

using test::Event;
using testing::HasSubstr;

class MappingsTest : public testing::Test {
 protected:
  [[nodiscard]] Reply reply() const {
    Reply made = test::reply_of(control::encode(1, control::Segment{segment->length()}));
    made.fds.push_back(std::move(segment->fd().duplicate()).value());
    return made;
  }
  // Waits for a mapping of segment 3 that is under way. `more` runs before the answer.
  Result<View> get(const std::function<void()>& more) {
    Event answered;
    Result<View> got = View();
    mappings->get(3, [&](const Result<View>& view) {
      got = view;
      answered.set();
    });
    more();
    EXPECT_TRUE(answered.wait());
    return got;
  }

  const std::unique_ptr<memory::Segment> segment = std::move(memory::Segment::create(3, 1, memory::ArenaKind::kSource)).value();
  test::HeldPort port;
  memory::CopyPool pool{1};
  memory::Reaper reaper;
  const std::shared_ptr<Mappings> mappings = std::make_shared<Mappings>(port, pool, reaper);
};

TEST_F(MappingsTest, maps_what_is_asked_for_once) {
  segment->base()[5] = std::byte{42};
  const View view = get([&] { port.asked.at(0)(reply()); }).value();
  EXPECT_EQ(view->base()[5], std::byte{42});
  EXPECT_EQ(view->length(), segment->length());
  EXPECT_EQ(get([] {}).value(), view);
  EXPECT_EQ(port.asked.size(), 1u);
}

TEST_F(MappingsTest, several_who_ask_at_once_share_one_request) {
  View other;
  mappings->get(3, [&](const Result<View>& view) { other = *view; });
  const View view = get([&] { port.asked.at(0)(reply()); }).value();
  EXPECT_EQ(other, view);
  EXPECT_EQ(port.asked.size(), 1u);
}

TEST_F(MappingsTest, a_forgotten_one_is_asked_for_again_and_stays_good_for_who_has_it) {
  const View view = get([&] { port.asked.at(0)(reply()); }).value();
  mappings->forget(3);
  mappings->forget(4);
  EXPECT_TRUE(test::eventually([&] { return view.use_count() == 1; }));  // the pool's thread lets go of it a moment later
  EXPECT_EQ(view->base()[0], std::byte{0});
  EXPECT_NE(get([&] { port.asked.at(1)(reply()); }).value(), view);
}

TEST_F(MappingsTest, one_that_is_retired_while_it_comes_is_delivered_and_not_kept) {
  const View view = get([&] {
                      mappings->forget(3);
                      port.asked.at(0)(reply());
                    }).value();
  EXPECT_NE(view, nullptr);
  EXPECT_TRUE(test::eventually([&] { return view.use_count() == 1; }));  // the pool's thread lets go of it a moment later
  (void)get([&] { port.asked.at(1)(reply()); });
}

TEST_F(MappingsTest, says_why_there_is_none_and_tries_again_when_asked_again) {
  EXPECT_EQ(get([&] { port.asked.at(0)(Status(Code::kPeerGone, "it left")); }).status().code(), Code::kPeerGone);
  Reply no_fd = reply();
  no_fd.fds.clear();
  EXPECT_THAT(get([&] { port.asked.at(1)(std::move(no_fd)); }).status().message(), HasSubstr("gave no segment"));
  Reply garbled = reply();
  garbled.frame.resize(control::kFrameHeaderBytes);
  EXPECT_THAT(get([&] { port.asked.at(2)(std::move(garbled)); }).status().message(), HasSubstr("gave no segment"));
  EXPECT_TRUE(get([&] { port.asked.at(3)(reply()); }).is_ok());
}

TEST_F(MappingsTest, refuses_memory_that_its_owner_could_take_away) {
  Reply unsealed = reply();
  unsealed.fds.clear();
  unsealed.fds.emplace_back(::memfd_create("ray-hixl-test", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(unsealed.fds[0].get(), static_cast<off_t>(segment->length())), 0);
  EXPECT_EQ(get([&] { port.asked.at(0)(std::move(unsealed)); }).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace ray_hixl::transport
