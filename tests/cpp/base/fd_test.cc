#include "base/fd.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/null_device.h"
#include "support/few_descriptors.h"

namespace ray_hixl {
namespace {

TEST(Fd, closes_what_it_owns) {
  int number = -1;
  {
    const Fd fd = open_null();
    ASSERT_TRUE(fd);
    number = fd.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
  EXPECT_FALSE(Fd());
}

TEST(Fd, moves) {
  Fd first = open_null();
  const int number = first.get();
  Fd second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): what a moved-from one is
  EXPECT_EQ(second.get(), number);
  Fd third = open_null();
  const int replaced = third.get();
  third = std::move(second);
  EXPECT_FALSE(is_open(replaced));
  EXPECT_EQ(third.get(), number);
  third.reset();
  EXPECT_FALSE(is_open(number));
}

TEST(Fd, is_given_away) {
  Fd fd = open_null();
  const int number = fd.release();
  fd.reset();
  EXPECT_TRUE(is_open(number));
  ::close(number);
}

TEST(Fd, duplicates_close_on_exec) {
  const Fd fd = open_null();
  const Result<Fd> copy = fd.duplicate();
  ASSERT_TRUE(copy.is_ok());
  EXPECT_NE(copy->get(), fd.get());
  EXPECT_EQ(::fcntl(copy->get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_EQ(Fd(100000).duplicate().status().code(), Code::kOutOfMemory);
}

TEST(ErrnoStatus, says_what_failed_and_why) {
  errno = ENOENT;
  const Status status = errno_status(Code::kNotAvailable, "cannot open it");
  EXPECT_EQ(status.code(), Code::kNotAvailable);
  EXPECT_THAT(status.message(), testing::StartsWith("cannot open it: No such file"));
}

TEST(ErrnoStatus, names_the_limit_that_was_reached) {
  errno = EMFILE;
  const std::string message = errno_status(Code::kOutOfMemory, "cannot open it").message();
  EXPECT_THAT(message, testing::StartsWith("cannot open it: no file descriptor is left"));
  EXPECT_THAT(message, testing::ContainsRegex("may have [1-9][0-9]* open \\(ulimit -n\\)"));
}

TEST(SpareDescriptor, is_there_or_named) {
  EXPECT_TRUE(check_spare_descriptor("it did not arrive").is_ok());
  const test::FewDescriptors none(0);
  EXPECT_THAT(check_spare_descriptor("it did not arrive").message(), testing::StartsWith("it did not arrive: no file descriptor is left"));
}

}  // namespace
}  // namespace ray_hixl
