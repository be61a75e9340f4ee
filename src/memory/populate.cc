#include "memory/populate.h"

#include <fcntl.h>
#include <sys/mman.h>

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
constexpr std::uint64_t kPage = 4096;

// 0 or the errno.
int populate_step(int fd, std::byte* base, std::uint64_t offset, std::uint64_t length) {
  std::byte* const begin = base + offset;
  const SignalsBlocked blocked;  // one would have fallocate undo all that it did, and a timer's signals do so for ever
  if (::madvise(begin, length, MADV_POPULATE_WRITE) == 0) return 0;
  if (errno != EINVAL) return errno;
  // Linux before 5.14 does not know that advice. Reserved pages can be touched without risk.
  if (::fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(length)) != 0) return errno;
  for (std::uint64_t i = 0; i < length; i += kPage) *reinterpret_cast<volatile std::byte*>(begin + i) = std::byte{0};
  return 0;
}

unsigned helpers_for(std::uint64_t length) {
  const std::uint64_t worth = length / (kStep * kStepsPerThread);
  const unsigned most = std::clamp(std::thread::hardware_concurrency(), 1U, kMostThreads);
  return static_cast<unsigned>(std::min<std::uint64_t>(std::max<std::uint64_t>(worth, 1), most)) - 1;
}

}  // namespace

Status populate(const Fd& fd, std::byte* base, std::uint64_t length) {
  std::atomic<std::uint64_t> next{0};
  std::atomic<int> failure{0};
  const auto work = [&] {
    while (failure.load(std::memory_order_relaxed) == 0) {
      const std::uint64_t offset = next.fetch_add(kStep, std::memory_order_relaxed);
      if (offset >= length) return;
      const int error = populate_step(fd.get(), base, offset, std::min(kStep, length - offset));
      if (error != 0) failure.store(error, std::memory_order_relaxed);
    }
  };
  std::vector<std::thread> helpers;
  for (unsigned wanted = helpers_for(length); wanted > 0; --wanted) {
    Result<std::thread> helper = start_thread("hixl-populate", work);
    if (!helper.is_ok()) break;  // those there are do it
    helpers.push_back(*std::move(helper));
  }
  work();
  for (std::thread& helper : helpers) helper.join();
  if (failure == 0) return Status::ok();
  errno = failure == EFAULT ? ENOMEM : failure.load();  // what a page that cannot be had looks like to madvise
  return errno_status(Code::kOutOfMemory, "cannot get " + std::to_string(length >> 20) + " MiB of shared memory");
}

}  // namespace ray_hixl::memory
