// LineProcess: a program of the tests in a process of its own, driven line by line through pipes. Killed when it goes.
#pragma once

#include <string>
#include <vector>

namespace ray_hixl::test {

class LineProcess {
 public:
  // `replaced`: NAME=value, beside or instead of what this process's environment has.
  LineProcess(const std::string& program, const std::vector<std::string>& given, const std::vector<std::string>& replaced);
  ~LineProcess();
  LineProcess(const LineProcess&) = delete;
  LineProcess& operator=(const LineProcess&) = delete;

  // One line there, one back. Aborts if there is none.
  [[nodiscard]] std::string ask(const std::string& command);
  [[nodiscard]] std::string pid() const { return std::to_string(pid_); }
  void pause();   // SIGSTOP; waits until it is stopped
  void resume();  // SIGCONT
  void kill();    // SIGKILL; waits until it is gone

 private:
  int pid_ = -1;
  int to_ = -1;
  int from_ = -1;
};

}  // namespace ray_hixl::test
