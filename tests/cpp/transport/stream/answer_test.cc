#include "transport/stream/answer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/pattern.h"
#include "transport/stream/checked_copy.h"

namespace ray_hixl::transport::stream {
namespace {

using testing::HasSubstr;

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

  // In how many pieces the kernel would get it now.
  static std::size_t pieces(const Answer& answer) {
    std::vector<iovec> vectors;
    answer.next(vectors, 100, 1 << 20);
    return vectors.size();
  }

  static inline std::uint64_t served = 0;
  CheckedCopy checked;
  const Answer::Copy copy = [this](std::span<const iovec> from, std::span<std::byte> into) { return checked.copy(from, into); };
  memory::Reaper reaper;
  std::unique_ptr<memory::SlotTable> slots = std::move(memory::SlotTable::create(reaper)).value();
  std::vector<std::byte> memory = test::make_pattern(10000, 1);
  const Handle handle = publish(memory);
};

TEST_F(AnswerTest, sends_the_spans_back_to_back_whatever_the_socket_takes) {
  for (const std::uint64_t step : {1, 7, 100, 1 << 20}) {
    served = 0;
    Answer answer = Answer::make(5, {{{handle, 5000, 3000}, {handle, 1, 1}, {handle, 77, 0}, {handle, 0, 10000}}}, *slots);
    const auto [payload, verdict] = parts(send(answer, step));
    ASSERT_EQ(payload.size(), 13001u);
    EXPECT_TRUE(test::is_pattern(std::span(payload).first(3000), 1, 5000));
    EXPECT_EQ(payload[3000], test::pattern_byte(1, 1));
    EXPECT_TRUE(test::is_pattern(std::span(payload).subspan(3001), 1));
    EXPECT_TRUE(verdict.is_ok());
    EXPECT_EQ(served, 13001u);
  }
}

TEST_F(AnswerTest, of_no_bytes_is_a_verdict) {
  Answer answer = Answer::make(5, {{{handle, 10000, 0}}}, *slots);
  const auto [payload, verdict] = parts(send(answer, 1000));
  EXPECT_TRUE(payload.empty());
  EXPECT_TRUE(verdict.is_ok());
}

TEST_F(AnswerTest, says_at_the_end_that_the_memory_was_freed_meanwhile) {
  Answer answer = Answer::make(5, {{{handle, 0, 10000}}}, *slots);
  const auto sent = send(answer, 1000, [&](std::size_t) { slots->retire(handle); });
  EXPECT_EQ(parts(sent).second.code(), Code::kInvalidRegion);
  EXPECT_THAT(parts(sent).second.message(), HasSubstr("while it was read"));
}

TEST_F(AnswerTest, sends_zeros_to_the_end_where_memory_is_gone) {
  served = 0;
  Answer answer = Answer::make(5, {{{handle, 0, 10000}}}, *slots);
  const auto [payload, verdict] = parts(send(answer, 4000, [&](std::size_t bytes) {
    if (bytes <= 4000) answer.memory_is_unmapped();
  }));
  EXPECT_EQ(payload.size(), 10000u);
  EXPECT_EQ(payload.back(), std::byte{0});
  EXPECT_EQ(verdict.code(), Code::kInvalidRegion);
  EXPECT_THAT(verdict.message(), HasSubstr("not mapped any more"));
  EXPECT_LT(served, 4001u);
}

TEST_F(AnswerTest, that_is_gathered_goes_out_in_one_piece) {
  served = 0;
  Answer answer = Answer::make(5, {{{handle, 100, 3000}, {handle, 1, 1}, {handle, 77, 0}}}, *slots);
  answer.gather(copy);
  EXPECT_EQ(pieces(answer), 1u);
  const auto [payload, verdict] = parts(send(answer, 1000));
  ASSERT_EQ(payload.size(), 3001u);
  EXPECT_TRUE(test::is_pattern(std::span(payload).first(3000), 1, 100));
  EXPECT_EQ(payload[3000], test::pattern_byte(1, 1));
  EXPECT_TRUE(verdict.is_ok());
  EXPECT_EQ(served, 3001u);
}

TEST_F(AnswerTest, that_is_gathered_is_judged_when_it_was_copied) {
  Answer answer = Answer::make(5, {{{handle, 0, 5000}}}, *slots);
  answer.gather([&](std::span<const iovec> from, std::span<std::byte> into) {
    const bool copied = copy(from, into);
    slots->retire(handle);
    return copied;
  });
  EXPECT_EQ(pieces(answer), 1u);
  EXPECT_EQ(parts(send(answer, 1000)).second.code(), Code::kInvalidRegion);
}

TEST_F(AnswerTest, that_cannot_be_copied_goes_out_piece_by_piece) {
  Answer answer = Answer::make(5, {{{handle, 0, 5000}}}, *slots);
  answer.gather([](std::span<const iovec>, std::span<std::byte>) { return false; });
  EXPECT_EQ(pieces(answer), 2u);
  const auto [payload, verdict] = parts(send(answer, 1000));
  EXPECT_TRUE(test::is_pattern(payload, 1));
  EXPECT_TRUE(verdict.is_ok());
}

TEST_F(AnswerTest, is_gathered_only_if_it_is_short_and_in_few_pieces) {
  std::vector<std::byte> large(CheckedCopy::kMost + 1);
  const Handle more = publish(large);
  const auto is_gathered = [&](control::Read read) {
    Answer answer = Answer::make(5, std::move(read), *slots);
    answer.gather(copy);
    return pieces(answer) == 1;
  };
  EXPECT_TRUE(is_gathered({{{more, 0, CheckedCopy::kMost}}}));
  EXPECT_FALSE(is_gathered({{{more, 0, CheckedCopy::kMost + 1}}}));
  EXPECT_TRUE(is_gathered({std::vector<control::ReadSpan>(CheckedCopy::kMostVectors, {more, 0, 1})}));
  EXPECT_FALSE(is_gathered({std::vector<control::ReadSpan>(CheckedCopy::kMostVectors + 1, {more, 0, 1})}));
}

TEST_F(AnswerTest, is_a_failure_for_bad_spans) {
  Handle stale = handle;
  stale.generation += 2;
  for (const control::ReadSpan& span : {control::ReadSpan{handle, 9999, 2}, {handle, ~std::uint64_t{0}, 1}, {stale, 0, 1}}) {
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
  Answer answer = Answer::make(5, {{{owned, 0, 10000}}}, *slots);
  slots->retire(owned);
  bool kept = true;
  (void)send(answer, 1000, [&](std::size_t bytes) {
    if (bytes < 10000) kept = kept && owner.use_count() > 1;
  });
  EXPECT_TRUE(kept);
  reaper.stop();
  EXPECT_EQ(owner.use_count(), 1);
}

}  // namespace
}  // namespace ray_hixl::transport::stream
