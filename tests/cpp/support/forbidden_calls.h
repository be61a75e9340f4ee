// Threads in which some system calls fail: what a sandbox, an old kernel or a limit looks like.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <thread>

namespace ray_hixl::test {

// Runs `body` in a thread in which, and in the threads that it starts, two system calls fail with `error`. Waits for it.
inline void without_calls(std::uint32_t one, std::uint32_t other, int error, const std::function<void()>& body) {
  std::thread([&] {
    std::array<sock_filter, 5> filter = {{BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                                          BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, one, 1, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 0, 1),
                                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)),
                                          BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) std::abort();
    body();
  }).join();
}

// What a kernel or a sandbox without memfd_create looks like.
inline void without_memfds(const std::function<void()>& body) { without_calls(SYS_memfd_create, SYS_memfd_create, ENOSYS, body); }
// What the limit of threads looks like to who is not root.
inline void without_threads(const std::function<void()>& body) { without_calls(SYS_clone3, SYS_clone, EAGAIN, body); }

}  // namespace ray_hixl::test
