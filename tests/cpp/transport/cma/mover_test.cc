#include "transport/cma/mover.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "support/pattern.h"

namespace ray_hixl::transport::cma {
namespace {

using testing::HasSubstr;

std::uint64_t address_of(const void* pointer) { return reinterpret_cast<std::uint64_t>(pointer); }

// Two pages of pattern bytes; what lies behind them is not mapped.
class PagesBeforeAGap : public testing::Test {
 protected:
  PagesBeforeAGap() {
    void* const mapped = ::mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) std::abort();
    base = static_cast<std::byte*>(mapped);
    ::munmap(base + 2 * kPage, kPage);
    test::fill_pattern({base, 2 * kPage}, 1);
  }
  ~PagesBeforeAGap() override { ::munmap(base, 2 * kPage); }

  static constexpr std::size_t kPage = 4096;
  std::byte* base = nullptr;
  CmaMover mover{::getpid()};
};

TEST_F(PagesBeforeAGap, more_pieces_than_one_call_takes_arrive) {
  constexpr std::size_t kPieces = 3000;
  std::vector<std::byte> to(kPieces * 2, std::byte{0xee});
  std::vector<Copy> copies;
  for (std::size_t i = 0; i < kPieces; ++i) copies.push_back({to.data() + 2 * i, address_of(base + 2 * i + 1), 1});
  EXPECT_TRUE(mover.move(copies).is_ok());
  for (std::size_t i = 0; i < kPieces; ++i) {
    ASSERT_EQ(to[2 * i], test::pattern_byte(1, 2 * i + 1));
    ASSERT_EQ(to[2 * i + 1], std::byte{0xee});
  }
}

TEST_F(PagesBeforeAGap, neighbours_are_joined_and_still_arrive) {
  std::vector<std::byte> to(2 * kPage);
  std::vector<Copy> copies;
  for (std::size_t i = 0; i < to.size(); i += 2) copies.push_back({to.data() + i, address_of(base + i), 2});
  EXPECT_TRUE(mover.move(copies).is_ok());
  EXPECT_TRUE(test::is_pattern(to, 1));
}

TEST_F(PagesBeforeAGap, memory_that_is_not_mapped_there_is_told) {
  std::vector<std::byte> to(4 * kPage);
  const std::vector<Copy> into_the_gap = {{to.data(), address_of(base), kPage}, {to.data() + kPage, address_of(base + kPage), 2 * kPage}};
  std::uint64_t unreadable = 0;
  CmaMover told(::getpid(), [&](std::uint64_t address) { unreadable = address; });
  const Status status = told.move(into_the_gap);
  EXPECT_EQ(status.code(), Code::kInvalidRegion);
  EXPECT_THAT(status.message(), HasSubstr("the peer's memory"));
  EXPECT_EQ(unreadable, address_of(base + 2 * kPage));
}

TEST_F(PagesBeforeAGap, memory_that_is_not_mapped_here_is_told) {
  const std::vector<Copy> copies = {{base + 2 * kPage, address_of(base), kPage}};
  CmaMover told(::getpid(), [](std::uint64_t) { ADD_FAILURE() << "the peer has its memory"; });
  const Status status = told.move(copies);
  EXPECT_EQ(status.code(), Code::kInvalidRegion);
  EXPECT_THAT(status.message(), HasSubstr("the target memory"));
}

TEST(CmaMover, says_that_the_process_ended) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  std::byte byte{};
  const Copy copy{&byte, address_of(&byte), 1};
  EXPECT_EQ(CmaMover(child).move({&copy, 1}).code(), Code::kPeerGone);
}

TEST(ProbeProcess, takes_the_right_process_only) {
  const Token token{std::byte{1}, std::byte{2}};
  EXPECT_TRUE(probe_process(::getpid(), address_of(token.data()), token).is_ok());
  Token other = token;
  other[0] = std::byte{9};
  const Status wrong_bytes = probe_process(::getpid(), address_of(token.data()), other);
  EXPECT_EQ(wrong_bytes.code(), Code::kNotAvailable);
  EXPECT_THAT(wrong_bytes.message(), HasSubstr("other bytes"));
  const Status not_mapped = probe_process(::getpid(), 16, token);
  EXPECT_EQ(not_mapped.code(), Code::kNotAvailable);
  EXPECT_THAT(not_mapped.message(), HasSubstr("a probe read failed"));
}

}  // namespace
}  // namespace ray_hixl::transport::cma
