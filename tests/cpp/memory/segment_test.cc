#include "memory/segment.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "support/child.h"
#include "support/held_calls.h"
#include "support/huge_pages.h"
#include "support/refused_calls.h"
#include "support/signal_storm.h"
#include "support/sizes.h"

namespace ray_hixl::memory {
namespace {

using test::kMiB;

std::unique_ptr<Segment> make(std::uint64_t bytes, ArenaKind kind) { return std::move(Segment::create(7, bytes, kind)).value(); }

std::uint64_t taken_bytes(const Fd& fd) {
  struct stat info {};
  EXPECT_EQ(::fstat(fd.get(), &info), 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

bool can_map_for_writing(const Segment& segment) {
  void* base = ::mmap(nullptr, segment.length(), PROT_READ | PROT_WRITE, MAP_SHARED, segment.fd().get(), 0);
  if (base == MAP_FAILED) return false;
  ::munmap(base, segment.length());
  return true;
}

TEST(Segment, its_size_is_rounded_up_and_all_its_pages_are_there) {
  const auto segment = make(3 * kMiB, ArenaKind::kSource);
  EXPECT_EQ(segment->id(), 7U);
  EXPECT_EQ(segment->length(), 4 * kMiB);
  EXPECT_EQ(taken_bytes(segment->fd()), 4 * kMiB);
  std::vector<unsigned char> resident(segment->length() / 4096);
  ASSERT_EQ(::mincore(segment->base(), segment->length(), resident.data()), 0);
  for (const unsigned char page : resident) ASSERT_EQ(page & 1, 1);
}

TEST(Segment, a_large_one_is_complete_too) {
  const auto segment = make(66 * kMiB, ArenaKind::kSource);  // large enough for several threads to fill it, with a part of a step left over
  EXPECT_EQ(taken_bytes(segment->fd()), segment->length());
}

TEST(Segment, is_complete_under_a_timer_signal) {
  const test::SignalStorm storm;
  const auto segment = make(66 * kMiB, ArenaKind::kSource);
  EXPECT_EQ(taken_bytes(segment->fd()), segment->length());
}

// Linux before 5.14 has another way only, which a signal makes undo all that it did (Linux since 6.15 goes on).
TEST(Segment, is_complete_under_a_timer_signal_on_an_old_kernel) {
  EXPECT_TRUE(test::in_child([] {
    if (!test::refuse_call(SYS_madvise, MADV_POPULATE_WRITE, EINVAL)) return false;
    const test::SignalStorm storm;
    const auto segment = make(66 * kMiB, ArenaKind::kSource);
    return taken_bytes(segment->fd()) == segment->length();
  }));
}

TEST(Segment, a_source_can_be_written_by_its_owner_only) {
  const auto segment = make(1, ArenaKind::kSource);
  segment->base()[0] = std::byte{1};
  segment->base()[segment->length() - 1] = std::byte{2};
  EXPECT_FALSE(can_map_for_writing(*segment));
  EXPECT_LT(::pwrite(segment->fd().get(), "x", 1, 0), 0);
}

TEST(Segment, a_landing_can_be_written_by_peers) { EXPECT_TRUE(can_map_for_writing(*make(1, ArenaKind::kLanding))); }

TEST(Segment, no_kind_can_be_resized_punched_or_unsealed) {
  for (const ArenaKind kind : {ArenaKind::kSource, ArenaKind::kLanding}) {
    const auto segment = make(1, kind);
    const int fd = segment->fd().get();
    EXPECT_NE(::ftruncate(fd, 4096), 0);
    EXPECT_NE(::ftruncate(fd, static_cast<off_t>(segment->length() * 2)), 0);
    EXPECT_NE(::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
  }
  const auto source = make(1, ArenaKind::kSource);
  EXPECT_NE(::fallocate(source->fd().get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
}

TEST(Segment, more_than_the_machine_has_is_refused_with_the_size) {
  const std::pair<std::uint64_t, const char*> sizes[] = {
      {std::uint64_t{10} << 40, " 10 TiB"}, {std::uint64_t{1} << 63, " 8192 PiB"}, {~std::uint64_t{0}, " 15 EiB"}};
  for (const auto& [bytes, told] : sizes) {
    const auto segment = Segment::create(1, bytes, ArenaKind::kSource);
    ASSERT_FALSE(segment.is_ok());
    EXPECT_EQ(segment.status().code(), Code::kOutOfMemory);
    EXPECT_NE(segment.status().message().find(told), std::string::npos) << segment.status().to_string();
  }
  EXPECT_EQ(Segment::create(1, 0, ArenaKind::kSource).status().code(), Code::kInvalidArgument);
}

TEST(Segment, a_forked_child_shares_it) {
  const auto segment = make(1, ArenaKind::kLanding);
  segment->base()[5] = std::byte{1};
  EXPECT_TRUE(test::in_child([&] {
    const bool seen = segment->base()[5] == std::byte{1};
    segment->base()[5] = std::byte{2};
    return seen;
  }));
  EXPECT_EQ(segment->base()[5], std::byte{2});
}

bool is_aligned(const std::byte* base) { return reinterpret_cast<std::uintptr_t>(base) % Segment::kGranule == 0; }

// Bytes of this process's addresses that are mapped and cannot be touched.
std::uint64_t reserved_bytes() {
  std::ifstream maps("/proc/self/maps");
  std::uint64_t found = 0;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) == 2 && line.find(" ---p ") != std::string::npos) found += end - begin;
  }
  return found;
}

TEST(Segment, it_and_its_views_lie_at_a_multiple_of_a_huge_page) {
  std::vector<std::unique_ptr<Segment>> segments;
  std::vector<std::shared_ptr<const SegmentView>> views;
  for (int i = 0; i < 4; ++i) {
    void* const between = ::mmap(nullptr, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);  // so that chance would not align them
    segments.push_back(make(2 * kMiB, ArenaKind::kSource));
    views.push_back(*SegmentView::map(segments.back()->fd(), 2 * kMiB));
    EXPECT_TRUE(is_aligned(segments.back()->base()));
    EXPECT_TRUE(is_aligned(views.back()->base()));
    ::munmap(between, 4096);
  }
}

TEST(Segment, no_address_stays_reserved_for_it_or_its_views) {
  const std::uint64_t before = reserved_bytes();
  for (int i = 0; i < 8; ++i) {
    const auto segment = make(2 * kMiB, ArenaKind::kSource);
    const auto view = *SegmentView::map(segment->fd(), segment->length());
    EXPECT_LT(reserved_bytes(), before + Segment::kGranule);
  }
  EXPECT_LT(reserved_bytes(), before + Segment::kGranule);
}

// Memory may be in pieces just now, so that a segment gets less.
std::unique_ptr<Segment> make_huge(std::uint64_t bytes) {
  std::unique_ptr<Segment> segment;
  for (int tries = 0; tries < 20 && (!segment || segment->huge_bytes() < bytes); ++tries) segment = make(bytes, ArenaKind::kSource);
  return segment;
}

TEST(Segment, it_lies_in_huge_pages_for_its_owner_and_for_peers) {
  if (!test::kernel_gives_huge_pages()) GTEST_SKIP() << "this kernel makes no huge pages of shared memory";
  const auto segment = make_huge(10 * kMiB);  // no multiple of what is taken at a time
  const auto view = *SegmentView::map(segment->fd(), segment->length());
  EXPECT_EQ(segment->huge_bytes(), 10 * kMiB);
  EXPECT_EQ(test::huge_bytes_at(segment->base()), 10 * kMiB);
  EXPECT_EQ(test::huge_bytes_at(view->base()), 10 * kMiB);
  EXPECT_EQ(taken_bytes(segment->fd()), 10 * kMiB);
}

TEST(Segment, all_its_bytes_are_zero_at_first) {
  const auto segment = make(10 * kMiB, ArenaKind::kLanding);
  EXPECT_TRUE(std::all_of(segment->base(), segment->base() + segment->length(), [](std::byte byte) { return byte == std::byte{0}; }));
}

TEST(Segment, is_complete_where_there_are_no_huge_pages) {
  EXPECT_TRUE(test::in_child([] {
    if (!test::refuse_call(SYS_madvise, test::kCollapse, EINVAL)) return false;
    const auto segment = make(66 * kMiB, ArenaKind::kSource);
    return taken_bytes(segment->fd()) == segment->length() && segment->huge_bytes() == 0;
  }));
}

// What the kernel is asked to do with whole steps while a segment of three is made, each huge one refused with `error`.
std::vector<std::uint64_t> asked_for(int error, std::size_t calls) {
  std::vector<std::uint64_t> asked;
  std::unique_ptr<Segment> segment;
  {
    test::HeldCalls taker(SYS_madvise, 8 * kMiB, [&] { segment = make(24 * kMiB, ArenaKind::kSource); });
    while (asked.size() < calls && taker.comes()) {
      asked.push_back(taker.argument(2));
      if (asked.back() == test::kCollapse) {
        taker.fail(error);
      } else {
        taker.let_go();
      }
    }
  }
  EXPECT_EQ(taken_bytes(segment->fd()), 24 * kMiB);
  EXPECT_EQ(segment->huge_bytes(), 0U);
  return asked;
}

TEST(Segment, huge_pages_that_were_refused_are_not_asked_for_again) {
  constexpr std::uint64_t kAll = MADV_POPULATE_WRITE;
  EXPECT_EQ(asked_for(ENOMEM, 4), (std::vector<std::uint64_t>{test::kCollapse, kAll, kAll, kAll}));
  EXPECT_EQ(asked_for(EINVAL, 4), (std::vector<std::uint64_t>{test::kCollapse, kAll, kAll, kAll}));
}

TEST(Segment, one_busy_page_leaves_the_rest_of_it_huge_pages) {
  constexpr std::uint64_t kAll = MADV_POPULATE_WRITE;
  EXPECT_EQ(asked_for(EAGAIN, 6), (std::vector<std::uint64_t>{test::kCollapse, kAll, test::kCollapse, kAll, test::kCollapse, kAll}));
}

TEST(SegmentView, a_peer_sees_what_the_owner_writes) {
  const auto segment = make(1, ArenaKind::kSource);
  const auto view = SegmentView::map(segment->fd(), segment->length());
  ASSERT_TRUE(view.is_ok()) << view.status().to_string();
  EXPECT_EQ((*view)->length(), segment->length());
  EXPECT_NE((*view)->base(), segment->base());
  segment->base()[segment->length() - 1] = std::byte{42};
  EXPECT_EQ((*view)->base()[segment->length() - 1], std::byte{42});
}

TEST(SegmentView, it_stays_readable_after_the_owner_gave_the_segment_back) {
  auto segment = make(1, ArenaKind::kSource);
  segment->base()[9] = std::byte{9};
  const auto view = *SegmentView::map(segment->fd(), segment->length());
  segment.reset();
  EXPECT_EQ(view->base()[9], std::byte{9});
}

TEST(SegmentView, a_wrong_length_is_refused) {
  const auto segment = make(1, ArenaKind::kSource);
  for (const std::uint64_t length : {std::uint64_t{0}, segment->length() - 4096, segment->length() + 4096, ~std::uint64_t{0}}) {
    EXPECT_EQ(SegmentView::map(segment->fd(), length).status().code(), Code::kInvalidArgument) << length;
  }
}

TEST(SegmentView, anything_but_a_complete_sealed_source_is_refused) {
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
  const std::vector<std::byte> bytes(2 * kMiB);
  const auto code = [&](int seals, bool complete) {
    const Fd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(::ftruncate(fd.get(), 2 * kMiB), 0);
    EXPECT_EQ(::pwrite(fd.get(), bytes.data(), complete ? 2 * kMiB : kMiB, 0), static_cast<ssize_t>(complete ? 2 * kMiB : kMiB));
    EXPECT_EQ(::fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, 2 * kMiB, 2 * kMiB), 0);  // pages enough, but behind its end
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    return SegmentView::map(fd, 2 * kMiB).status().code();
  };
  EXPECT_EQ(code(kSeals, true), Code::kOk);
  EXPECT_EQ(code(kSeals, false), Code::kInvalidArgument) << "pages are missing";
  EXPECT_EQ(code(F_SEAL_SHRINK | F_SEAL_GROW, true), Code::kInvalidArgument);
  EXPECT_EQ(code(F_SEAL_GROW | F_SEAL_FUTURE_WRITE, true), Code::kInvalidArgument);
  EXPECT_EQ(code(F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, true), Code::kInvalidArgument);
  const auto landing = make(1, ArenaKind::kLanding);
  EXPECT_EQ(SegmentView::map(landing->fd(), landing->length()).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(SegmentView::map(Fd(::open("/dev/zero", O_RDONLY | O_CLOEXEC)), 4096).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(SegmentView::map(Fd(), 4096).status().code(), Code::kInvalidArgument);
}

}  // namespace
}  // namespace ray_hixl::memory
