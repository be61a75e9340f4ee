// HeldCalls: a thread whose system calls of one kind wait for the test, so that it decides what happens while they are under way.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>

#include "base/fd.h"
#include "support/event.h"

namespace ray_hixl::test {

class HeldCalls {
 public:
  // `body` runs in a thread in which the calls `number` are held whose second argument is `second`: the length, for those that map.
  HeldCalls(std::uint32_t number, std::uint64_t second, std::function<void()> body)
      : thread_([this, number, second, body = std::move(body)] {
          warmth_ = std::make_unique<char>();  // malloc maps and unmaps what it keeps for a thread
          listener_ = hold(number, static_cast<std::uint32_t>(second));
          listening_.set();
          body();
        }) {
    if (!listening_.wait()) std::abort();
  }
  // Calls that are still held fail with ENOSYS.
  ~HeldCalls() {
    listener_.reset();
    thread_.join();
  }
  HeldCalls(const HeldCalls&) = delete;
  HeldCalls& operator=(const HeldCalls&) = delete;

  // One call is held now. False if none comes in time.
  [[nodiscard]] bool comes(std::chrono::milliseconds time = std::chrono::seconds(20)) {
    pollfd wanted{listener_.get(), POLLIN, 0};
    if (::poll(&wanted, 1, static_cast<int>(time.count())) != 1) return false;
    held_ = {};
    return ::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_RECV, &held_) == 0;
  }
  // One of its arguments, from 0.
  [[nodiscard]] std::uint64_t argument(std::size_t index) const { return held_.data.args[index]; }
  // It does what it would have done.
  void let_go() { answer(0, SECCOMP_USER_NOTIF_FLAG_CONTINUE); }
  // It fails.
  void fail(int error) { answer(-error, 0); }

 private:
  static Fd hold(std::uint32_t number, std::uint32_t second) {
    std::array<sock_filter, 6> filter = {
        {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
         BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, second, 0, 1),
         BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)}};
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) std::abort();
    Fd listener = Fd::make(
        [&] { return static_cast<int>(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program)); });
    if (!listener) std::abort();
    return listener;
  }

  void answer(int error, std::uint32_t flags) {
    seccomp_notif_resp response{held_.id, 0, error, flags};
    if (::ioctl(listener_.get(), SECCOMP_IOCTL_NOTIF_SEND, &response) != 0) std::abort();
  }

  std::unique_ptr<char> warmth_;
  Fd listener_;
  seccomp_notif held_{};
  Event listening_;
  std::thread thread_;  // last: it uses the others
};

}  // namespace ray_hixl::test
