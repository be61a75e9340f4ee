// Has the kernel refuse a system call, as other kernels and sandboxes do. For the rest of the calling thread, and of those that it starts:
// for forked children of tests, and threads of engines.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace ray_hixl::test {

namespace detail {
inline bool install(const sock_filter* code, std::uint16_t length) {
  sock_fprog program{length, const_cast<sock_filter*>(code)};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}
inline constexpr std::uint32_t kNumber = offsetof(seccomp_data, nr);
}  // namespace detail

// `number` (SYS_...) fails with `error`. False if this kernel cannot do that.
[[nodiscard]] inline bool refuse_call(int number, std::uint16_t error) {
  const std::array<sock_filter, 4> code = {
      {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, detail::kNumber), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
  return detail::install(code.data(), code.size());
}

// The same, where its third argument is `third`.
[[nodiscard]] inline bool refuse_call(int number, std::uint32_t third, std::uint16_t error) {
  constexpr std::uint32_t kThird = offsetof(seccomp_data, args) + 2 * sizeof(std::uint64_t);
  const std::array<sock_filter, 6> code = {
      {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, detail::kNumber), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 3),
       BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kThird), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, third, 0, 1),
       BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
  return detail::install(code.data(), code.size());
}

}  // namespace ray_hixl::test
