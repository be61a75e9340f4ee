// Passing descriptors over a Unix socket, and a pipe that tells whether anybody still has the end that was passed.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "base/fd.h"

namespace ray_hixl::test {

// All of `bytes` at once, and `passed` with the first of them, `copies` times.
inline bool send_with_fd(const Fd& socket, std::span<const std::byte> bytes, const Fd& passed, std::size_t copies = 1) {
  const std::vector<int> numbers(copies, passed.get());
  std::vector<std::byte> control(CMSG_SPACE(sizeof(int) * copies));
  iovec io{const_cast<std::byte*>(bytes.data()), bytes.size()};
  msghdr message{};
  message.msg_iov = &io;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* const part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(int) * copies);
  std::memcpy(CMSG_DATA(part), numbers.data(), sizeof(int) * copies);
  return ::sendmsg(socket.get(), &message, MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
}

class PassedPipe {
 public:
  PassedPipe() {
    std::array<int, 2> pair{};
    if (::pipe2(pair.data(), O_CLOEXEC | O_NONBLOCK) != 0) std::abort();
    kept_ = Fd(pair[0]);
    given = Fd(pair[1]);
  }
  // Once `given` was reset here.
  [[nodiscard]] bool nobody_has_it() const {
    char byte = 0;
    return ::read(kept_.get(), &byte, 1) == 0;
  }

  Fd given;

 private:
  Fd kept_;
};

}  // namespace ray_hixl::test
