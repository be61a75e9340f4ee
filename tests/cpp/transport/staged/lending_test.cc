// Lender and Borrower, the two halves of staged by mapping, with nothing but requests between them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <map>
#include <mutex>

#include "support/event.h"
#include "support/eventually.h"
#include "support/own_context.h"
#include "support/pattern.h"
#include "support/scripted_staging.h"
#include "support/shares.h"
#include "transport/mappings.h"
#include "transport/staged/borrower.h"
#include "transport/staged/lender.h"

namespace ray_hixl::transport::staged {
namespace {

using device::Staging;
using test::Event;
using test::eventually;
using test::on_loop;
using test::OwnContext;
using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr std::uint64_t kBuffer = Staging::kBufferBytes;

// One side: its context, with two devices that do as the script says.
struct Side {
  test::StagingScript script;
  OwnContext own{{}, [this](const auto& source) { return std::make_shared<test::ScriptedDevices>(2, script, source); }};

  ~Side() {
    own.context.devices->stop();
    own.pool.stop();
    own.loop->stop();
  }
  [[nodiscard]] Staging& staging(std::int32_t device) const { return own.context.devices->find(device)->staging(); }
};

// A session of the owner and the reader's port to it.
class Session final : public Answerable, public Port, public std::enable_shared_from_this<Session> {
 public:
  Session(Side& owner, Side& reader, std::shared_ptr<Lender> lender) : owner_(owner), reader_(reader), lender_(std::move(lender)) {
    auto view = std::make_shared<ReaderView>();
    view->is_same_user = true;
    view_ = std::move(view);
  }

  void request(std::function<std::vector<std::byte>(std::uint64_t)> encode, std::function<void(Result<Reply>)> answer) override {
    owner_.own.loop->post([self = shared_from_this(), encode = std::move(encode), answer = std::move(answer)] {
      const std::uint64_t id = ++self->next_;
      self->waiting_[id] = answer;
      self->serve(encode(id));
    });
  }
  void open_connection(control::TransportKind, Deadline, std::function<void(Result<Fd>)>) override { FAIL() << "parts come by requests"; }
  [[nodiscard]] bool is_live(const Handle& handle) const override { return !takes_all_back && owner_.own.slots->live(handle); }

  void work_began() override {}
  void answered(FrameParts frame, std::vector<Fd> fds, bool) override {
    const control::Frame decoded = *control::next_frame(frame.at(0)).value();
    if (decoded.type == control::MessageType::kStaged && control::decode_staged(decoded.body)->length > 0) ++staged;
    const auto reply = std::make_shared<Reply>(Reply{decoded.type, frame.at(0), std::move(fds)});
    reader_.own.loop->post([answer = std::move(waiting_.extract(decoded.request).mapped()), reply] {
      if (reply->type == control::MessageType::kFailure) return answer(control::decode_failure(reply->body())->status);
      answer(std::move(*reply));
    });
  }

  void end() {
    on_loop(*owner_.own.loop, [this] { lender_->session_ended(*view_); });
  }
  // Answers what it was silent about.
  void speak() {
    is_silent = is_silent_about_segments = false;
    owner_.own.loop->post([self = shared_from_this()] {
      for (const auto& bytes : std::exchange(self->held_, {})) self->serve(bytes);
    });
  }
  std::atomic<int> staged = 0;  // parts
  std::atomic<int> asked = 0;
  std::atomic<bool> is_silent = false;
  std::atomic<bool> is_silent_about_segments = false;
  std::atomic<bool> passes_no_segments = false;
  std::atomic<bool> has_given_a_segment_back = false;
  std::atomic<bool> takes_all_back = false;

 private:
  void serve(const std::vector<std::byte>& bytes) {
    const control::Frame frame = *control::next_frame(bytes).value();
    const bool is_of_segment = frame.type == control::MessageType::kMapSegment;
    if (!is_of_segment && !control::decode_stage(frame.body)->spans.empty()) ++asked;
    if (is_of_segment ? is_silent_about_segments : is_silent) return held_.push_back(bytes);
    Responder responder(*owner_.own.loop, weak_from_this(), view_, frame.request);
    if (is_of_segment && passes_no_segments) return std::move(responder).fail(Status(Code::kOutOfMemory, "no descriptors"));
    if (is_of_segment && has_given_a_segment_back.exchange(false))
      return std::move(responder).fail(Status(Code::kInvalidRegion, "no such segment"));
    if (pass_segment(owner_.own.context, frame, responder)) return;
    lender_->stage(control::decode_stage(frame.body).value(), std::move(responder));
  }

  Side& owner_;
  Side& reader_;
  const std::shared_ptr<Lender> lender_;
  std::shared_ptr<const ReaderView> view_;
  std::uint64_t next_ = 0;
  std::map<std::uint64_t, std::function<void(Result<Reply>)>> waiting_;
  std::vector<std::vector<std::byte>> held_;
};

// A read, and how it ended.
struct Read {
  std::vector<std::byte> into;
  std::shared_ptr<TransferState> transfer = std::make_shared<TransferState>(Deadline::never());
  Event ended;
  Status result;
};

class LendingTest : public testing::Test {
 protected:
  LendingTest() {
    memory.resize(9 * kBuffer + 77);
    test::fill_pattern(memory, 5);
  }
  ~LendingTest() override {
    borrower.reset();
    on_loop(*owner.own.loop, [this] { lender->shut_down(); });
    EXPECT_TRUE(eventually([this] { return owner.own.slots->live_slots() == published; })) << "something is lent for ever";
  }

  Handle publish(std::vector<MemoryRange> ranges) {
    ++published;
    memory::SlotContent content;
    content.ranges = std::move(ranges);
    return owner.own.slots->publish(std::move(content)).value();
  }
  Handle publish(std::uint64_t bytes) { return publish({{memory.data(), bytes, MemoryKind::kDevice, 1}}); }
  std::shared_ptr<Job> job_of(Read& read, const Handle& source, std::uint64_t bytes, std::int32_t device) {
    read.into.resize(bytes);
    auto plan = std::make_shared<Plan>();
    plan->sources = {source};
    plan->bytes = bytes;
    plan->callers_memory = true;
    plan->places = {{device, -1, 0, device < 0}};
    plan->pieces = {{read.into.data(), 0, bytes, 0, 0, 0}};
    auto job = std::make_shared<Job>();
    job->transfer = read.transfer;
    job->share = test::share_of(plan->pieces);
    job->plan = std::move(plan);
    job->done = [&read](const Status& status) {
      read.result = status;
      read.ended.set();
    };
    return job;
  }
  std::unique_ptr<Read> start(const Handle& source, std::uint64_t bytes, std::int32_t device = -1) {
    auto read = std::make_unique<Read>();
    borrower->submit(job_of(*read, source, bytes, device));
    return read;
  }
  Status outcome(const Read& read) {
    EXPECT_TRUE(read.ended.wait());
    return read.result;
  }
  // All buffers of a device, which others want, too.
  std::vector<Staging::Buffer> take_all(std::int32_t device, std::size_t more) {
    std::vector<Staging::Buffer> taken;
    std::mutex mutex;
    const std::size_t wanted = Staging::kBuffersEachWay - more;
    for (std::size_t i = 0; i < wanted; ++i) {
      owner.staging(device).take(Staging::Way::kOut, [&](Result<Staging::Buffer> buffer) {
        const std::lock_guard lock(mutex);
        taken.push_back(*std::move(buffer));
      });
    }
    EXPECT_TRUE(eventually([&] {
      const std::lock_guard lock(mutex);
      return taken.size() == wanted;
    }));
    return taken;
  }

  std::vector<std::byte> memory;  // of the owner's devices
  std::atomic<std::uint32_t> published = 0;
  Side owner;
  Side reader;
  const std::shared_ptr<Lender> lender = std::make_shared<Lender>(owner.own.context);
  const std::shared_ptr<Session> session = std::make_shared<Session>(owner, reader, lender);
  std::vector<std::shared_ptr<Job>> otherwise;
  std::unique_ptr<Borrower> borrower =
      std::make_unique<Borrower>(reader.own.context, *session, Lender::kMostParts, [this](std::shared_ptr<Job> job) {
        otherwise.push_back(job);
        job->end(Status(Code::kNotAvailable, "done otherwise"));
      });
};

TEST_F(LendingTest, brings_every_byte_to_the_host_and_to_a_device) {
  const Handle source = publish(memory.size());
  for (const std::int32_t device : {-1, 0}) {
    const auto read = start(source, memory.size(), device);
    ASSERT_TRUE(outcome(*read).is_ok()) << read->result.message();
    EXPECT_TRUE(test::is_pattern(read->into, 5));
    EXPECT_EQ(read->transfer->bytes_by_transport().at(0).bytes, memory.size());
  }
  EXPECT_EQ(reader.own.counters.staged_mapped, 2 * memory.size());
  EXPECT_EQ(owner.own.counters.served_bytes, 2 * memory.size());
  EXPECT_LE(owner.script.pinned, Lender::kMostParts) << "buffers";
  EXPECT_TRUE(eventually([this] { return owner.own.slots->live_slots() == published; })) << "a part was not given back";
}

TEST_F(LendingTest, several_reads_take_turns) {
  const Handle source = publish(memory.size());
  std::vector<std::unique_ptr<Read>> reads;
  for (int i = 0; i < 5; ++i) reads.push_back(start(source, memory.size(), i % 2 - 1));
  for (const auto& read : reads) {
    EXPECT_TRUE(outcome(*read).is_ok());
    EXPECT_TRUE(test::is_pattern(read->into, 5));
  }
}

// Of one device and of 512 ranges at most; the reader asks again for the rest.
TEST_F(LendingTest, stages_as_much_as_goes_into_a_part) {
  std::vector<MemoryRange> ranges;
  for (std::uint64_t i = 0; i < 2000; ++i) ranges.push_back({memory.data() + i, 1, MemoryKind::kDevice, i < 700 ? 0 : 1});
  const auto read = start(publish(ranges), 2000);
  EXPECT_TRUE(outcome(*read).is_ok()) << read->result.message();
  EXPECT_TRUE(test::is_pattern(read->into, 5));
  EXPECT_EQ(session->asked, 5) << "512, 188, 512, 512, 276";
}

// What the reader copied out of a buffer that others have by then is not delivered.
TEST_F(LendingTest, asks_again_for_what_was_taken_back) {
  owner.own.options.stall_timeout_s = 0.1;
  Event go_on;
  reader.script.waits = &go_on;
  const auto read = start(publish(kBuffer), kBuffer, 0);
  ASSERT_TRUE(eventually([this] { return reader.script.began == 1; }));
  std::vector<Staging::Buffer> all = take_all(1, 0);  // the last of them is the one that was lent
  for (const Staging::Buffer& buffer : all) std::memset(buffer.get(), 0xee, kBuffer);
  all.clear();
  go_on.set();
  EXPECT_TRUE(outcome(*read).is_ok());
  EXPECT_TRUE(test::is_pattern(read->into, 5));
  EXPECT_EQ(session->asked, 2);
}

TEST_F(LendingTest, lets_a_reader_keep_what_nobody_lacks) {
  owner.own.options.stall_timeout_s = 0.01;
  Event go_on;
  reader.script.waits = &go_on;
  const auto read = start(publish(kBuffer), kBuffer, 0);
  ASSERT_TRUE(eventually([this] { return reader.script.began == 1; }));
  std::this_thread::sleep_for(50ms);
  go_on.set();
  EXPECT_TRUE(outcome(*read).is_ok());
  EXPECT_EQ(session->asked, 1);
}

TEST_F(LendingTest, has_back_what_was_lent_when_the_session_ends) {
  Event go_on;
  reader.script.waits = &go_on;
  const auto read = start(publish(memory.size()), memory.size(), 0);
  ASSERT_TRUE(eventually([this] { return session->staged == Lender::kMostParts; }));
  EXPECT_EQ(owner.own.slots->live_slots(), published + Lender::kMostParts);
  session->end();
  EXPECT_EQ(owner.own.slots->live_slots(), published);
  EXPECT_EQ(take_all(1, 0).size(), Staging::kBuffersEachWay);
  borrower->close(Status(Code::kPeerGone, "the link is down"));
  go_on.set();
  EXPECT_EQ(outcome(*read).code(), Code::kPeerGone);
}

TEST_F(LendingTest, copies_nothing_for_a_session_that_ended) {
  std::vector<Staging::Buffer> all = take_all(1, 0);
  const auto read = start(publish(memory.size()), memory.size());
  ASSERT_TRUE(eventually([this] { return session->asked == Lender::kMostParts; }));
  borrower->close(Status(Code::kPeerGone, "the link is down"));
  EXPECT_EQ(outcome(*read).code(), Code::kPeerGone);
  session->end();
  all.clear();
  EXPECT_EQ(take_all(1, 0).size(), Staging::kBuffersEachWay);
  EXPECT_EQ(owner.script.began, 0);
}

// He may give parts back after all were taken back.
TEST_F(LendingTest, lends_nothing_that_was_asked_for_before_all_was_taken_back) {
  Event go_on;
  owner.script.waits = &go_on;
  const auto read = start(publish(kBuffer), kBuffer);
  ASSERT_TRUE(eventually([this] { return owner.script.began == 1; }));
  session->end();
  session->request([](std::uint64_t id) { return control::encode(id, control::Stage{}); }, [](const Result<Reply>&) {});
  on_loop(*owner.own.loop, [] {});
  go_on.set();
  EXPECT_FALSE(outcome(*read).is_ok());
  EXPECT_EQ(session->staged, 0);
}

TEST_F(LendingTest, lends_so_many_parts_to_a_reader_and_no_more) {
  const Handle source = publish(memory.size());
  std::vector<Result<control::Staged>> answers;
  std::mutex mutex;
  const auto ask = [&](control::Stage stage) {
    session->request([stage](std::uint64_t id) { return control::encode(id, stage); },
                     [&](const Result<Reply>& reply) {
                       const std::lock_guard lock(mutex);
                       answers.push_back(reply.is_ok() ? control::decode_staged(reply->body()) : reply.status());
                     });
  };
  const auto have = [&](std::size_t count) {
    return eventually([&] {
      const std::lock_guard lock(mutex);
      return answers.size() == count;
    });
  };
  for (std::uint32_t i = 0; i <= Lender::kMostParts; ++i) ask({{}, {{source, 0, 1}}});
  ASSERT_TRUE(have(Lender::kMostParts + 1));
  EXPECT_EQ(std::ranges::count_if(answers, [](const auto& each) { return each.status().code() == Code::kInvalidArgument; }), 1);
  const auto lent = std::ranges::find_if(answers, [](const auto& each) { return each.is_ok(); });
  ask({{(*lent)->part}, {{source, 0, 1}}});
  ASSERT_TRUE(have(Lender::kMostParts + 2));
  EXPECT_TRUE(answers.back().is_ok());
  ask({{source, Handle{1, 1, 1}}, {}});  // neither is a part of his
  ASSERT_TRUE(have(Lender::kMostParts + 3));
  EXPECT_EQ(answers.back()->length, 0u);
  EXPECT_TRUE(owner.own.slots->live(source));
}

TEST_F(LendingTest, a_read_that_is_stopped_ends_before_its_parts_come) {
  Event go_on;
  owner.script.waits = &go_on;
  const auto read = start(publish(memory.size()), memory.size());
  ASSERT_TRUE(eventually([this] { return session->asked == Lender::kMostParts; }));
  read->transfer->request_stop(Status(Code::kCancelled, "nobody wants it any more"));
  borrower->heed_stops();
  EXPECT_EQ(outcome(*read).code(), Code::kCancelled);
  go_on.set();
  EXPECT_TRUE(eventually([this] { return session->staged == Lender::kMostParts; }));
  EXPECT_TRUE(std::ranges::all_of(read->into, [](std::byte byte) { return byte == std::byte{0}; }));
  owner.script.waits = nullptr;
  EXPECT_TRUE(outcome(*start(publish(kBuffer), kBuffer)).is_ok()) << "what came late is given back";
}

TEST_F(LendingTest, ends_a_read_only_when_nothing_writes_for_it) {
  Event go_on;
  reader.script.waits = &go_on;
  const auto read = start(publish(kBuffer), kBuffer, 0);
  ASSERT_TRUE(eventually([this] { return reader.script.began == 1; }));
  read->transfer->request_stop(Status(Code::kCancelled, "nobody wants it any more"));
  borrower->heed_stops();
  on_loop(*reader.own.loop, [] {});
  EXPECT_TRUE(read->result.is_ok()) << "it was told too early";
  go_on.set();
  EXPECT_EQ(outcome(*read).code(), Code::kCancelled);
}

TEST_F(LendingTest, what_the_owner_does_not_lend_is_done_otherwise_from_its_beginning) {
  owner.script.fails = true;
  EXPECT_THAT(outcome(*start(publish(kBuffer), kBuffer)).message(), HasSubstr("otherwise"));
  EXPECT_EQ(otherwise.size(), 1u);
  owner.script.fails = false;
  const Handle mixed = publish({{memory.data(), 5 * kBuffer, MemoryKind::kDevice, 1}, {memory.data(), 1, MemoryKind::kHost, 0}});
  EXPECT_THAT(outcome(*start(mixed, 5 * kBuffer + 1)).message(), HasSubstr("otherwise"));
  EXPECT_EQ(otherwise.size(), 2u);
  EXPECT_EQ(reader.own.counters.staged_mapped, 0u) << "nor counted";
}

TEST_F(LendingTest, what_cannot_be_mapped_is_done_otherwise) {
  session->passes_no_segments = true;
  EXPECT_THAT(outcome(*start(publish(6 * kBuffer), 6 * kBuffer)).message(), HasSubstr("otherwise"));
  session->passes_no_segments = false;
  EXPECT_TRUE(outcome(*start(publish(6 * kBuffer), 6 * kBuffer)).is_ok()) << "and its parts went back";
}

TEST_F(LendingTest, what_is_taken_back_each_time_is_done_otherwise) {
  session->takes_all_back = true;
  EXPECT_THAT(outcome(*start(publish(kBuffer), kBuffer)).message(), HasSubstr("otherwise"));
  EXPECT_EQ(session->asked, 16);
}

// The owner's other NPUs may be well.
TEST_F(LendingTest, a_read_behind_parts_that_do_not_come_back_is_done_otherwise) {
  reader.own.options.stall_timeout_s = 0.05;
  session->is_silent = true;
  const Handle source = publish(memory.size());
  const auto first = start(source, memory.size());
  const auto second = start(source, kBuffer);
  EXPECT_EQ(outcome(*first).code(), Code::kPeerGone);
  EXPECT_THAT(outcome(*second).message(), HasSubstr("otherwise"));
  reader.own.options.stall_timeout_s = 3600;
  EXPECT_THAT(outcome(*start(source, kBuffer)).message(), HasSubstr("otherwise")) << "at once";
  session->speak();
  ASSERT_TRUE(eventually([this] { return session->staged == Lender::kMostParts; }));
  EXPECT_TRUE(eventually([&] { return outcome(*start(source, kBuffer)).is_ok(); })) << "once they have come back";
  Event go_on;
  owner.script.waits = &go_on;
  session->asked = 0;
  const auto all_parts = start(source, memory.size());
  ASSERT_TRUE(eventually([this] { return session->asked == Lender::kMostParts; }));
  const auto behind = start(source, kBuffer);
  go_on.set();
  EXPECT_TRUE(outcome(*all_parts).is_ok());
  EXPECT_TRUE(outcome(*behind).is_ok()) << "others may come back as soon";
}

// The reader stood still; what he was lent was taken back, and its segment, which held nothing else, went.
TEST_F(LendingTest, asks_again_for_a_part_whose_segment_was_given_back) {
  session->is_silent_about_segments = true;
  const auto read = start(publish(kBuffer), kBuffer);
  ASSERT_TRUE(eventually([this] { return session->staged == 1; }));
  session->end();
  session->has_given_a_segment_back = true;
  session->speak();
  EXPECT_TRUE(outcome(*read).is_ok()) << read->result.message();
  EXPECT_TRUE(test::is_pattern(read->into, 5));
  EXPECT_EQ(session->asked, 2);
}

TEST_F(LendingTest, an_owner_that_does_not_pass_what_it_staged_for_long_is_gone) {
  reader.own.options.stall_timeout_s = 0.05;
  session->is_silent_about_segments = true;
  const auto read = start(publish(kBuffer), kBuffer);
  EXPECT_EQ(outcome(*read).code(), Code::kPeerGone);
  session->speak();  // a port answers in any case, at the latest when its link ends
  reader.own.options.stall_timeout_s = 3600;
  EXPECT_TRUE(outcome(*start(publish(kBuffer), kBuffer)).is_ok());
}

TEST_F(LendingTest, a_read_that_is_stopped_ends_before_its_parts_are_mapped) {
  session->is_silent_about_segments = true;
  const auto read = start(publish(memory.size()), memory.size());
  ASSERT_TRUE(eventually([this] { return session->staged == Lender::kMostParts; }));
  read->transfer->request_stop(Status(Code::kCancelled, "nobody wants it any more"));
  borrower->heed_stops();
  EXPECT_EQ(outcome(*read).code(), Code::kCancelled);
  session->speak();
  EXPECT_TRUE(outcome(*start(publish(kBuffer), kBuffer)).is_ok()) << "what is mapped late is given back";
  EXPECT_TRUE(std::ranges::all_of(read->into, [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST_F(LendingTest, tells_of_memory_that_was_freed_between_parts) {
  Event go_on;
  reader.script.waits = &go_on;
  const Handle source = publish(memory.size());
  const auto read = start(source, memory.size(), 0);
  ASSERT_TRUE(eventually([this] { return reader.script.began == 1; }));
  EXPECT_TRUE(owner.own.slots->retire(source));
  --published;
  go_on.set();
  EXPECT_EQ(outcome(*read).code(), Code::kInvalidRegion);
}

TEST_F(LendingTest, says_where_the_target_is_not_mapped) {
  Read read;
  const auto job = job_of(read, publish(kBuffer), kBuffer, -1);
  void* const gone = ::mmap(nullptr, kBuffer, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  std::vector<Piece> pieces = job->pieces();
  pieces.at(0).local = static_cast<std::byte*>(gone);
  job->share = test::share_of(pieces);
  borrower->submit(job);
  EXPECT_EQ(outcome(read).code(), Code::kInvalidRegion);
  ::munmap(gone, kBuffer);
}

TEST_F(LendingTest, an_owner_that_stages_nothing_for_long_is_gone) {
  reader.own.options.stall_timeout_s = 0.05;
  session->is_silent = true;
  const auto read = start(publish(kBuffer), kBuffer);
  EXPECT_EQ(outcome(*read).code(), Code::kPeerGone);
  EXPECT_THAT(read->result.message(), HasSubstr("stall_timeout_s"));
}

}  // namespace
}  // namespace ray_hixl::transport::staged
