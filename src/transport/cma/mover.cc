#include "transport/cma/mover.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <string>

#include "base/fd.h"

namespace ray_hixl::transport::cma {
namespace {

constexpr std::size_t kMostVectors = 512;  // a call; more gain nothing

// The security module that most often forbids it says so in a file.
std::string why_forbidden() {
  int scope = 0;
  std::ifstream("/proc/sys/kernel/yama/ptrace_scope") >> scope;
  if (scope > 0) return "/proc/sys/kernel/yama/ptrace_scope is " + std::to_string(scope);
  return "another user, a changed uid, a container without CAP_SYS_PTRACE, or a seccomp profile";
}

Status read_failed(int error) {
  switch (error) {
    case ESRCH: return Status(Code::kPeerGone, "the peer's process ended");
    case EPERM:
    case ENOSYS:
      return Status(Code::kNotAvailable,
                    "the kernel refuses process_vm_readv (" + why_forbidden() +
                        "); allow it with sysctl kernel.yama.ptrace_scope=0, and in a container with --cap-add SYS_PTRACE "
                        "or a seccomp profile that lets process_vm_readv through");
    case ENOMEM: return Status(Code::kOutOfMemory, "the kernel has no memory for process_vm_readv");
    default: errno = error; return errno_status(Code::kInternal, "process_vm_readv");
  }
}

// Drops what was read from the front of one side.
std::span<iovec> rest_of(std::span<iovec> vectors, std::size_t bytes) {
  while (bytes > 0) {
    iovec& first = vectors.front();
    const std::size_t taken = std::min(bytes, first.iov_len);
    first.iov_base = static_cast<std::byte*>(first.iov_base) + taken;
    first.iov_len -= taken;
    bytes -= taken;
    if (first.iov_len == 0) vectors = vectors.subspan(1);
  }
  return vectors;
}

}  // namespace

// The copies of one call.
struct CmaMover::Vectors {
  std::array<iovec, kMostVectors> to;
  std::array<iovec, kMostVectors> from;
  std::size_t count = 0;

  // False if there is no room.
  bool add(const Copy& copy) {
    if (count == kMostVectors) return false;
    to[count] = {copy.to, copy.length};
    from[count] = {reinterpret_cast<void*>(copy.from), copy.length};
    ++count;
    return true;
  }
};

// A call stops short where memory is not mapped; the next one then says so.
Status CmaMover::read_all(Vectors& vectors) const {
  auto to = std::span(vectors.to).first(vectors.count);
  auto from = std::span(vectors.from).first(vectors.count);
  while (!to.empty()) {
    const ssize_t got = ::process_vm_readv(pid_, to.data(), to.size(), from.data(), from.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return got == 0 || errno == EFAULT ? not_mapped(from.front().iov_base) : read_failed(errno);
    to = rest_of(to, static_cast<std::size_t>(got));
    from = rest_of(from, static_cast<std::size_t>(got));
  }
  return Status::ok();
}

// The kernel does not say on which side: a byte that surely fits here is read to see.
Status CmaMover::not_mapped(void* from) const {
  std::byte byte{};
  const iovec here{&byte, 1};
  const iovec there{from, 1};
  if (::process_vm_readv(pid_, &here, 1, &there, 1, 0) == 1) {
    return Status(Code::kInvalidRegion, "the target memory is not mapped any more (was its storage resized or unmapped meanwhile?)");
  }
  unreadable_(reinterpret_cast<std::uint64_t>(from));
  return Status(Code::kInvalidRegion,
                "the kernel does not read the peer's memory for another process: it is not mapped any more (was its storage resized or "
                "unmapped while it was published?), or it is a driver's, such as pinned memory, which stream reads: allow that in "
                "Options.transports");
}

Status CmaMover::move(std::span<const Copy> copies) {
  Vectors vectors;
  for (const Copy& copy : copies) {
    if (vectors.add(copy)) continue;
    RAY_HIXL_RETURN_IF_ERROR(read_all(vectors));
    vectors.count = 0;
    vectors.add(copy);
  }
  return read_all(vectors);
}

Status probe_process(pid_t pid, std::uint64_t address, const Token& token) {
  Token seen{};
  CmaMover mover(pid);
  const Copy copy{seen.data(), address, seen.size()};
  const Status read = mover.move({&copy, 1});
  if (!read.is_ok()) return Status(Code::kNotAvailable, "a probe read failed: " + read.message());
  if (seen == token) return Status::ok();
  return Status(Code::kNotAvailable, "a probe read gave other bytes than the peer has: its process id is another one here");
}

}  // namespace ray_hixl::transport::cma
