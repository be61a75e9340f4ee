#include "support/line_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace ray_hixl::test {
namespace {

constexpr int kAnswerMillis = 30'000;

[[noreturn]] void give_up(const std::string& why) {
  std::fprintf(stderr, "peer process: %s\n", why.c_str());
  std::abort();
}

// Calls until no signal interrupts it.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

std::pair<int, int> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) give_up("no pipe");
  return {ends[0], ends[1]};
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

// This process's, with some replaced.
std::vector<std::string> environment_with(const std::vector<std::string>& replaced) {
  std::vector<std::string> all = replaced;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('=') + 1);
    if (std::ranges::none_of(replaced, [&](const std::string& each) { return each.starts_with(name); })) all.push_back(text);
  }
  return all;
}

}  // namespace

LineProcess::LineProcess(const std::string& program, const std::vector<std::string>& given, const std::vector<std::string>& replaced) {
  const auto [their_in, my_out] = make_pipe();
  const auto [my_in, their_out] = make_pipe();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, their_in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, their_out, STDOUT_FILENO);
  std::vector<std::string> arguments = {program};
  arguments.insert(arguments.end(), given.begin(), given.end());
  std::vector<std::string> environment = environment_with(replaced);
  if (::posix_spawn(&pid_, program.c_str(), &actions, nullptr, pointers_to(arguments).data(), pointers_to(environment).data()) != 0) {
    give_up("cannot start " + program);
  }
  posix_spawn_file_actions_destroy(&actions);
  ::close(their_in);
  ::close(their_out);
  to_ = my_out;
  from_ = my_in;
}

LineProcess::~LineProcess() {
  kill();
  ::close(to_);
  ::close(from_);
}

void LineProcess::pause() {
  ::kill(pid_, SIGSTOP);
  int status = 0;
  uninterrupted([&] { return ::waitpid(pid_, &status, WUNTRACED); });
}

void LineProcess::resume() { ::kill(pid_, SIGCONT); }

void LineProcess::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  uninterrupted([&] { return ::waitpid(pid_, &status, 0); });
  pid_ = -1;
}

std::string LineProcess::ask(const std::string& command) {
  const std::string line = command + "\n";
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t n = uninterrupted([&] { return ::write(to_, line.data() + sent, line.size() - sent); });
    if (n < 0) give_up("it does not take commands");
    sent += static_cast<std::size_t>(n);
  }
  std::string answer;
  while (answer.empty() || answer.back() != '\n') {
    pollfd waiting{from_, POLLIN, 0};
    if (uninterrupted([&] { return ::poll(&waiting, 1, kAnswerMillis); }) <= 0) give_up("no answer to: " + command.substr(0, 40));
    std::array<char, 65536> buffer;
    const ssize_t n = uninterrupted([&] { return ::read(from_, buffer.data(), buffer.size()); });
    if (n <= 0) give_up("it ended at: " + command.substr(0, 40));
    answer.append(buffer.data(), static_cast<std::size_t>(n));
  }
  answer.pop_back();
  return answer;
}

}  // namespace ray_hixl::test
