#include "transport/stream/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support/pattern.h"

namespace ray_hixl::transport::stream {
namespace {

using testing::HasSubstr;

constexpr std::size_t kBytes = 20000;  // too many to be gathered

class AnswerTest : public testing::Test {
 protected:
  Handle publish(std::vector<std::byte>& bytes) {
    memory::SlotContent content;
    content.ranges = {{bytes.data(), bytes.size()}};
    return slots->publish(std::move(content)).value();
  }
  // What a reader gets, `step` bytes at a time; `between` runs after each.
  static std::vector<std::byte> send(Answer& answer, std::uint64_t step, const std::function<void(std::size_t)>& between = nullptr) {
    std::vector<std::byte> sent;
    std::vector<iovec> vectors;
    while (!answer.done()) {
      answer.next(vectors, 4, step);
      std::uint64_t taken = 0;
      for (const iovec& vector : vectors) {
        const auto* from = static_cast<const std::byte*>(vector.iov_base);
        const std::uint64_t some = std::min<std::uint64_t>(vector.iov_len, step - taken);
        sent.insert(sent.end(), from, from + some);
        taken += some;
      }
      EXPECT_GT(taken, 0u);
      served += answer.sent(taken);
      if (answer.awaits_verdict()) answer.judge();
      if (between) between(sent.size());
    }
    return sent;
  }
  // The parts of an answer: the payload, and the verdict behind it.
  static std::pair<std::vector<std::byte>, Status> parts(const std::vector<std::byte>& sent) {
    const control::Frame reading = *control::next_frame(sent).value();
    EXPECT_EQ(reading.type, control::MessageType::kReading);
    EXPECT_EQ(reading.request, 5u);
    const std::uint64_t bytes = control::decode_reading(reading.body)->bytes;
    const auto payload = std::span(sent).subspan(reading.bytes.size(), bytes);
    const control::Frame end = *control::next_frame(std::span(sent).subspan(reading.bytes.size() + bytes)).value();
    EXPECT_EQ(reading.bytes.size() + bytes + end.bytes.size(), sent.size());
    return {{payload.begin(), payload.end()}, control::decode_read_end(end.body)->status};
  }
  static Status failure(const std::vector<std::byte>& sent) {
    const control::Frame frame = *control::next_frame(sent).value();
    EXPECT_EQ(frame.type, control::MessageType::kFailure);
    return control::decode_failure(frame.body)->status;
  }

  static inline std::uint64_t served = 0;
  memory::Reaper reaper;
  std::unique_ptr<memory::SlotTable> slots = std::move(memory::SlotTable::create(reaper)).value();
  std::vector<std::byte> memory = test::make_pattern(kBytes, 1);
  const Handle handle = publish(memory);
};

TEST_F(AnswerTest, sends_the_spans_back_to_back_whatever_the_socket_takes) {
  for (const std::uint64_t step : {1, 7, 100, 1 << 20}) {
    served = 0;
    Answer answer = Answer::make(5, {{{handle, 5000, 3000}, {handle, 1, 1}, {handle, 77, 0}, {handle, 0, kBytes}}}, *slots);
    const auto [payload, verdict] = parts(send(answer, step));
    ASSERT_EQ(payload.size(), 3001 + kBytes);
    EXPECT_TRUE(test::is_pattern(std::span(payload).first(3000), 1, 5000));
    EXPECT_EQ(payload[3000], test::pattern_byte(1, 1));
    EXPECT_TRUE(test::is_pattern(std::span(payload).subspan(3001), 1));
    EXPECT_TRUE(verdict.is_ok());
    EXPECT_EQ(served, 3001 + kBytes);
  }
}

TEST_F(AnswerTest, of_no_bytes_is_a_verdict) {
  Answer answer = Answer::make(5, {{{handle, kBytes, 0}}}, *slots);
  const auto [payload, verdict] = parts(send(answer, 1000));
  EXPECT_TRUE(payload.empty());
  EXPECT_TRUE(verdict.is_ok());
}

TEST_F(AnswerTest, says_at_the_end_that_the_memory_was_freed_meanwhile) {
  Answer answer = Answer::make(5, {{{handle, 0, kBytes}}}, *slots);
  const auto sent = send(answer, 1000, [&](std::size_t) { slots->retire(handle); });
  EXPECT_EQ(parts(sent).second.code(), Code::kInvalidRegion);
  EXPECT_THAT(parts(sent).second.message(), HasSubstr("while it was read"));
}

TEST_F(AnswerTest, sends_zeros_to_the_end_where_memory_is_gone) {
  served = 0;
  Answer answer = Answer::make(5, {{{handle, 0, kBytes}}}, *slots);
  const auto [payload, verdict] = parts(send(answer, 4000, [&](std::size_t bytes) {
    if (bytes <= 4000) answer.memory_is_unmapped();
  }));
  EXPECT_EQ(payload.size(), kBytes);
  EXPECT_EQ(payload.back(), std::byte{0});
  EXPECT_EQ(verdict.code(), Code::kInvalidRegion);
  EXPECT_THAT(verdict.message(), HasSubstr("not mapped any more"));
  EXPECT_LT(served, 4001u);
}

TEST_F(AnswerTest, of_few_bytes_goes_out_in_one_piece) {
  served = 0;
  Answer answer = Answer::make(5, {{{handle, 100, 3000}, {handle, 1, 1}, {handle, 77, 0}}}, *slots);
  std::vector<iovec> vectors;
  answer.next(vectors, 4, 1 << 20);
  ASSERT_EQ(vectors.size(), 1u);
  const auto [payload, verdict] = parts(send(answer, 1000));
  ASSERT_EQ(payload.size(), 3001u);
  EXPECT_TRUE(test::is_pattern(std::span(payload).first(3000), 1, 100));
  EXPECT_EQ(payload[3000], test::pattern_byte(1, 1));
  EXPECT_TRUE(verdict.is_ok());
  EXPECT_EQ(served, 3001u);
}

TEST_F(AnswerTest, of_few_bytes_in_memory_that_is_gone_goes_out_piece_by_piece) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const pages = ::mmap(nullptr, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(::munmap(static_cast<std::byte*>(pages) + page, page), 0);
  memory::SlotContent content;
  content.ranges = {{static_cast<std::byte*>(pages), 2 * page}};
  const Handle torn = slots->publish(std::move(content)).value();
  Answer answer = Answer::make(5, {{{torn, page - 100, 200}}}, *slots);
  std::vector<iovec> vectors;
  answer.next(vectors, 4, 1 << 20);
  EXPECT_EQ(vectors.size(), 2u);  // sendmsg will tell
  answer.memory_is_unmapped();
  EXPECT_THAT(parts(send(answer, 1000)).second.message(), HasSubstr("not mapped any more"));
  ::munmap(pages, page);
}

TEST_F(AnswerTest, is_a_failure_for_bad_spans) {
  Handle stale = handle;
  stale.generation += 2;
  for (const control::ReadSpan& span : {control::ReadSpan{handle, kBytes - 1, 2}, {handle, ~std::uint64_t{0}, 1}, {stale, 0, 1}}) {
    Answer answer = Answer::make(5, {{{handle, 0, 1}, span}}, *slots);
    EXPECT_EQ(failure(send(answer, 1000)).code(), Code::kInvalidRegion);
  }
}

TEST_F(AnswerTest, pins_what_it_sends_until_the_last_byte) {
  const auto owner = std::make_shared<int>(0);
  memory::SlotContent content;
  content.ranges = {{memory.data(), memory.size()}};
  content.owner = owner;
  const Handle owned = slots->publish(std::move(content)).value();
  Answer answer = Answer::make(5, {{{owned, 0, kBytes}}}, *slots);
  slots->retire(owned);
  bool kept = true;
  (void)send(answer, 1000, [&](std::size_t bytes) {
    if (bytes < kBytes) kept = kept && owner.use_count() > 1;
  });
  EXPECT_TRUE(kept);
  reaper.stop();
  EXPECT_EQ(owner.use_count(), 1);
}

}  // namespace
}  // namespace ray_hixl::transport::stream
