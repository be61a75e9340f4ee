// in_child, Child: run checks in a forked child of the test.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <utility>
#include <vector>

namespace ray_hixl::test {

// A child that runs `check` once it hears of something that the parent did meanwhile.
class Child {
 public:
  using Told = std::vector<std::byte>;

  explicit Child(const std::function<bool(const Told&)>& check) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) std::abort();
    std::fflush(nullptr);  // or the child prints it again
    pid_ = ::fork();
    if (pid_ != 0) {
      ::close(ends[0]);
      writes_ = ends[1];
      return;
    }
    ::alarm(60);
    ::close(ends[1]);
    Told told;
    std::array<std::byte, 4096> part{};
    for (ssize_t got = 1; got > 0;) {
      got = ::read(ends[0], part.data(), part.size());
      if (got > 0) told.insert(told.end(), part.begin(), part.begin() + got);
    }
    ::_exit(check(told) ? 0 : 1);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (writes_ >= 0) (void)passes();
  }

  // Tells it to go on. What its check said; false also if it did not end.
  [[nodiscard]] bool passes(const Told& told = {}) {
    const bool sent = ::write(writes_, told.data(), told.size()) == static_cast<ssize_t>(told.size());
    ::close(std::exchange(writes_, -1));
    int status = -1;
    return ::waitpid(pid_, &status, 0) == pid_ && WIFEXITED(status) && WEXITSTATUS(status) == 0 && sent;
  }

 private:
  pid_t pid_ = -1;
  int writes_ = -1;  // no Fd: every child would close it
};

// What `check` says in the child; false also if it does not end.
inline bool in_child(const std::function<bool()>& check) {
  return Child([&](const Child::Told&) { return check(); }).passes();
}

}  // namespace ray_hixl::test
