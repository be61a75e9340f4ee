#include "transport/staged/host_copy.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "transport/stream/checked_copy.h"

namespace ray_hixl::transport::staged {
namespace {

// Memory of a driver, as a runtime pins, may be no page that the kernel looks up for the calls above, and yet be mapped.
Status through_a_pipe(std::byte* to, const std::byte* from, std::uint64_t length) {
  stream::CheckedCopy pipe;
  RAY_HIXL_RETURN_IF_ERROR(pipe.open());
  for (std::uint64_t done = 0; done < length;) {
    const std::uint64_t some = std::min(stream::CheckedCopy::kMost, length - done);
    const iovec piece{const_cast<std::byte*>(from + done), static_cast<std::size_t>(some)};
    if (!pipe.copy({&piece, 1}, {to + done, static_cast<std::size_t>(some)})) {
      return Status(Code::kInvalidRegion, "the memory is not mapped any more (was its storage resized or unmapped meanwhile?)");
    }
    done += some;
  }
  return Status::ok();
}

// The kernel reads and writes this process's own memory. Where a sandbox does not let it, the copy is an ordinary one.
template <class Call>
Status checked(Call call, std::byte* to, const std::byte* from, std::uint64_t length, std::byte* memory, std::byte* buffer) {
  for (std::uint64_t done = 0; done < length;) {
    const iovec here{buffer + done, static_cast<std::size_t>(length - done)};
    const iovec there{memory + done, static_cast<std::size_t>(length - done)};
    const ssize_t some = call(::getpid(), &here, 1, &there, 1, 0);
    if (some > 0) {
      done += static_cast<std::uint64_t>(some);
    } else if (errno == EFAULT) {
      return through_a_pipe(to + done, from + done, length - done);
    } else {
      std::memcpy(to + done, from + done, length - done);
      return Status::ok();
    }
  }
  return Status::ok();
}

}  // namespace

Status copy_from_host(std::byte* buffer, const std::byte* memory, std::uint64_t length) {
  return checked(::process_vm_readv, buffer, memory, length, const_cast<std::byte*>(memory), buffer);
}

Status copy_to_host(std::byte* memory, const std::byte* buffer, std::uint64_t length) {
  return checked(::process_vm_writev, memory, buffer, length, memory, const_cast<std::byte*>(buffer));
}

}  // namespace ray_hixl::transport::staged
