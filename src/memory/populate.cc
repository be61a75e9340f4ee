#include "memory/populate.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "base/signals.h"
#include "base/thread.h"

namespace ray_hixl::memory {
namespace {

// At a time, because the kernel lets nobody else change this process's mappings meanwhile: some 3 ms.
constexpr std::uint64_t kStep = std::uint64_t{8} << 20;
constexpr std::uint64_t kStepsPerThread = 2;  // fewer are not worth a thread
constexpr unsigned kMostThreads = 4;
constexpr std::int64_t kPage = 4096;
constexpr int kCollapse = 25;  // MADV_COLLAPSE, which older headers do not have

// Asks for huge pages: 0 if all of these bytes lie in them now, else the errno. The kernel refuses to make one of nothing: so one of its
// pages is taken first.
int take_huge_pages(std::byte* begin, std::uint64_t length) {
  for (std::uint64_t i = 0; i < length; i += kHugePage) {
    if (::madvise(begin + i, kPage, MADV_POPULATE_WRITE) != 0) return errno;
  }
  return ::madvise(begin, length, kCollapse) == 0 ? 0 : errno;
}

// Takes the pages that are not there yet. 0 or the errno.
int take_pages(int fd, std::byte* base, std::uint64_t offset, std::uint64_t length) {
  std::byte* const begin = base + offset;
  if (::madvise(begin, length, MADV_POPULATE_WRITE) == 0) return 0;
  if (errno != EINVAL) return errno;
  // Linux before 5.14 does not know that advice. Reserved pages can be touched without risk.
  if (::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) return errno;
  for (std::uint64_t i = 0; i < length; i += kPage) *reinterpret_cast<volatile std::byte*>(begin + i) = std::byte{0};
  return 0;
}

// What several threads do, a step at a time.
class Populating {
 public:
  Populating(const Fd& fd, std::byte* base, std::uint64_t length) : fd_(fd), base_(base), length_(length) {}

  void work() {
    const SignalsBlocked blocked;  // one would have fallocate undo all that it did, and a timer's signals do so for ever
    while (error() == 0) {
      const std::uint64_t offset = next_.fetch_add(kStep, std::memory_order_relaxed);
      if (offset >= length_) return;
      take(offset, std::min(kStep, length_ - offset));
    }
  }
  // 0 or the errno, once all have worked.
  [[nodiscard]] int error() const { return error_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t huge_bytes() const { return huge_bytes_.load(std::memory_order_relaxed); }

 private:
  void take(std::uint64_t offset, std::uint64_t length) {
    if (gets_huge_pages_.load(std::memory_order_relaxed)) {
      const int refusal = take_huge_pages(base_ + offset, length);
      if (refusal == 0) huge_bytes_.fetch_add(length, std::memory_order_relaxed);
      // It is busy with one of these pages; the next ones are others. For any other reason asking again costs much, and brings nothing.
      if (refusal != 0 && refusal != EAGAIN) gets_huge_pages_.store(false, std::memory_order_relaxed);
    }
    if (const int error = take_pages(fd_.get(), base_, offset, length); error != 0) error_.store(error, std::memory_order_relaxed);
  }

  const Fd& fd_;
  std::byte* const base_;
  const std::uint64_t length_;
  std::atomic<std::uint64_t> next_{0};
  std::atomic<std::uint64_t> huge_bytes_{0};
  std::atomic<bool> gets_huge_pages_{::sysconf(_SC_PAGESIZE) == kPage};  // where pages are larger, huge ones are far larger than kHugePage
  std::atomic<int> error_{0};
};

unsigned helpers_for(std::uint64_t length) {
  const std::uint64_t worth = length / (kStep * kStepsPerThread);
  const unsigned most = std::clamp(std::thread::hardware_concurrency(), 1U, kMostThreads);
  return static_cast<unsigned>(std::min<std::uint64_t>(std::max<std::uint64_t>(worth, 1), most)) - 1;
}

}  // namespace

Result<std::uint64_t> populate(const Fd& fd, std::byte* base, std::uint64_t length) {
  Populating populating(fd, base, length);
  std::vector<std::thread> helpers;
  for (unsigned wanted = helpers_for(length); wanted > 0; --wanted) {
    Result<std::thread> helper = start_thread("hixl-populate", [&] { populating.work(); });
    if (!helper.is_ok()) break;  // those there are do it
    helpers.push_back(*std::move(helper));
  }
  populating.work();
  for (std::thread& helper : helpers) helper.join();
  const int error = populating.error();
  if (error == 0) return populating.huge_bytes();
  errno = error == EFAULT ? ENOMEM : error;  // what a page that cannot be had looks like to madvise
  return errno_status(Code::kOutOfMemory, "cannot get " + std::to_string(length >> 20) + " MiB of shared memory");
}

}  // namespace ray_hixl::memory
