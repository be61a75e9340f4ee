#include "transport/responder.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>

#include "control/messages.h"
#include "support/eventually.h"
#include "support/on_loop.h"

namespace ray_hixl::transport {
namespace {

using test::eventually;
using test::on_loop;
using testing::ElementsAre;

using Bytes = std::vector<std::byte>;

// A session that only remembers. Loop thread.
class FakeSession final : public Answerable {
 public:
  void work_began() override { ++working; }
  void answered(FrameParts frame, std::vector<Fd> fds, bool worked) override {
    if (worked) --working;
    Bytes whole;
    for (const auto& part : frame) whole.insert(whole.end(), part.begin(), part.end());
    answers.push_back(whole);
    parts.push_back(frame.size());
    descriptors += fds.size();
  }

  int working = 0;
  std::vector<Bytes> answers;
  std::vector<std::size_t> parts;
  std::size_t descriptors = 0;
};

class ResponderTest : public testing::Test {
 protected:
  ~ResponderTest() override {
    pool.stop();
    loop->stop();
  }
  Responder responder(std::uint64_t request = 7) { return {*loop, session, std::make_shared<const ReaderView>(), request}; }
  [[nodiscard]] std::vector<Bytes> answers() {
    return on_loop(*loop, [this] { return session->answers; });
  }
  [[nodiscard]] static Status failure_of(const Bytes& answer) {
    const control::Frame frame = **control::next_frame(answer);
    EXPECT_EQ(frame.type, control::MessageType::kFailure);
    EXPECT_EQ(frame.request, 7u);
    return control::decode_failure(frame.body)->status;
  }

  const std::unique_ptr<net::Loop> loop = test::new_loop();
  memory::CopyPool pool{1};
  std::shared_ptr<FakeSession> session = std::make_shared<FakeSession>();
  const Bytes frame = control::encode(7, control::Segment{1});
};

TEST_F(ResponderTest, answers_at_once_on_the_loop) {
  on_loop(*loop, [&] {
    responder().send(frame);
    EXPECT_THAT(session->answers, ElementsAre(frame));
  });
}

TEST_F(ResponderTest, answers_from_any_thread_later) {
  std::optional<Responder> kept;
  on_loop(*loop, [&] { kept.emplace(responder()); });
  std::vector<Fd> fds;
  fds.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  std::thread([&] { std::move(*kept).send(frame, std::move(fds)); }).join();
  kept.reset();
  EXPECT_TRUE(eventually([&] { return answers().size() == 1; }));
  EXPECT_THAT(answers(), ElementsAre(frame));
  EXPECT_EQ(on_loop(*loop, [&] { return session->descriptors; }), 1u);
}

TEST_F(ResponderTest, that_is_dropped_says_that_there_is_no_answer) {
  on_loop(*loop, [&] { (void)responder(); });
  ASSERT_EQ(answers().size(), 1u);
  EXPECT_EQ(failure_of(answers()[0]).code(), Code::kInternal);
}

TEST_F(ResponderTest, that_was_moved_answers_once) {
  on_loop(*loop, [&] {
    Responder first = responder();
    Responder second = std::move(first);
    std::move(second).fail(Status(Code::kInvalidRegion, "gone"));
  });
  ASSERT_EQ(answers().size(), 1u);
  EXPECT_EQ(failure_of(answers()[0]).code(), Code::kInvalidRegion);
}

TEST_F(ResponderTest, may_outlive_its_session) {
  std::optional<Responder> kept;
  on_loop(*loop, [&] {
    kept.emplace(responder());
    session.reset();
  });
  std::move(*kept).send(frame);
  kept.reset();
  on_loop(*loop, [] {});
}

TEST_F(ResponderTest, has_its_answer_made_by_the_pool) {
  std::atomic<bool> go{false};
  std::thread::id where;
  on_loop(*loop, [&] {
    responder().answer(pool, 1000, [&](std::uint64_t request) -> Result<Bytes> {
      while (!go) std::this_thread::yield();
      where = std::this_thread::get_id();
      return control::encode(request, control::Segment{1});
    });
    EXPECT_EQ(session->working, 1);
    EXPECT_TRUE(session->answers.empty());
  });
  go = true;
  EXPECT_TRUE(eventually([&] { return answers().size() == 1; }));
  EXPECT_THAT(answers(), ElementsAre(frame));
  EXPECT_EQ(on_loop(*loop, [&] { return session->working; }), 0);
  EXPECT_NE(where, on_loop(*loop, [] { return std::this_thread::get_id(); }));
}

TEST_F(ResponderTest, says_so_where_the_pool_takes_no_work) {
  pool.stop();
  on_loop(*loop, [&] { responder().answer(pool, 1000, [&](std::uint64_t) -> Result<Bytes> { return frame; }); });
  ASSERT_EQ(answers().size(), 1u);
  EXPECT_EQ(failure_of(answers()[0]).code(), Code::kClosed);
  EXPECT_EQ(on_loop(*loop, [&] { return session->working; }), 0);
}

// So that what was sent goes back bit by bit.
TEST_F(ResponderTest, cuts_a_long_answer_into_parts) {
  control::Resolved resolved;
  resolved.ranges.resize(200'000);
  const Bytes expected = control::encode(7, resolved);
  on_loop(*loop, [&] { responder().answer(pool, 1000, [&](std::uint64_t) -> Result<Bytes> { return expected; }); });
  EXPECT_TRUE(eventually([&] { return answers().size() == 1; }));
  EXPECT_EQ(answers()[0], expected);
  EXPECT_EQ(session->parts[0], 4u);
}

}  // namespace
}  // namespace ray_hixl::transport
