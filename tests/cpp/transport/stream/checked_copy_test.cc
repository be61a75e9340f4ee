#include "transport/stream/checked_copy.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <vector>

#include "support/few_descriptors.h"
#include "support/pattern.h"

namespace ray_hixl::transport::stream {
namespace {

iovec piece(std::span<const std::byte> bytes) { return {const_cast<std::byte*>(bytes.data()), bytes.size()}; }

class CheckedCopyTest : public testing::Test {
 protected:
  bool copies(std::span<const std::byte> from) {
    std::vector<std::byte> into(from.size());
    const iovec whole = piece(from);
    return copy.copy({&whole, 1}, into) && std::ranges::equal(into, from);
  }

  const std::vector<std::byte> memory = test::make_pattern(CheckedCopy::kMost, 1);
  CheckedCopy copy;
};

TEST_F(CheckedCopyTest, puts_pieces_one_after_another) {
  const std::vector<iovec> pieces = {piece(std::span(memory).subspan(5000, 100)), piece(std::span(memory).first(1)),
                                     piece(std::span(memory).first(0))};
  std::vector<std::byte> into(101);
  ASSERT_TRUE(copy.copy(pieces, into));
  EXPECT_TRUE(test::is_pattern(std::span(into).first(100), 1, 5000));
  EXPECT_EQ(into[100], memory[0]);
}

TEST_F(CheckedCopyTest, copies_as_much_as_it_says) {
  EXPECT_TRUE(copies(memory));
  EXPECT_TRUE(copies({}));
}

// As the kernel makes those of a user who has many.
TEST_F(CheckedCopyTest, copies_as_much_through_a_small_pipe) {
  const int next = Fd(::dup(STDIN_FILENO)).get();  // the next descriptor's number
  ASSERT_TRUE(copy.open().is_ok());
  ASSERT_GT(::fcntl(next, F_SETPIPE_SZ, 4096), 0);
  EXPECT_TRUE(copies(memory));
  const std::vector<iovec> pieces = {piece(std::span(memory).first(4096)), piece(std::span(memory).subspan(4096, 5000)), piece({}),
                                     piece(std::span(memory).subspan(9096))};
  std::vector<std::byte> into(memory.size());
  EXPECT_TRUE(copy.copy(pieces, into));
  EXPECT_EQ(into, memory);
}

TEST_F(CheckedCopyTest, of_memory_that_is_gone_fails_and_leaves_nothing_to_the_next) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  void* const pages = ::mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  ASSERT_EQ(::munmap(static_cast<std::byte*>(pages) + page, page), 0);
  // Nothing is there; some of it is; so much that the kernel has put it into the pipe.
  for (const auto& [offset, length] : {std::pair{page, std::size_t{200}}, {page - 100, std::size_t{200}}, {std::size_t{0}, page + 100}}) {
    const iovec torn{static_cast<std::byte*>(pages) + offset, length};
    std::vector<std::byte> into(length);
    EXPECT_FALSE(copy.copy({&torn, 1}, into));
    EXPECT_TRUE(copies(memory));
  }
  const iovec whole = piece(std::span(memory).subspan(1, 200));
  EXPECT_FALSE(copy.copy({&whole, 1}, {static_cast<std::byte*>(pages) + page - 100, 200}));
  EXPECT_TRUE(copies(memory));
  ::munmap(pages, page);
}

TEST_F(CheckedCopyTest, gives_its_descriptors_back) {
  const auto open_files = [] {
    const std::filesystem::directory_iterator files("/proc/self/fd");
    return std::distance(begin(files), end(files));
  };
  const auto before = open_files();
  EXPECT_TRUE(copy.open().is_ok());
  EXPECT_TRUE(copies(memory));
  EXPECT_EQ(open_files(), before + 2);
  copy.close();
  EXPECT_EQ(open_files(), before);
  EXPECT_TRUE(copies(memory));
}

TEST_F(CheckedCopyTest, without_descriptors_fails_until_there_are_some) {
  {
    const test::FewDescriptors one(1);
    EXPECT_FALSE(copies(memory));
  }
  EXPECT_TRUE(copies(memory));
}

}  // namespace
}  // namespace ray_hixl::transport::stream
