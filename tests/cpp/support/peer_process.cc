#include "support/peer_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

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

std::pair<int, int> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) give_up("no pipe");
  return {ends[0], ends[1]};
}

char hex_digit(unsigned value) { return "0123456789abcdef"[value]; }
unsigned hex_value(char digit) { return static_cast<unsigned>(digit <= '9' ? digit - '0' : digit - 'a' + 10); }

}  // namespace

std::string to_hex(const std::vector<std::byte>& bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) {
    text += hex_digit(std::to_integer<unsigned>(byte) >> 4);
    text += hex_digit(std::to_integer<unsigned>(byte) & 15);
  }
  return text;
}

std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes.push_back(static_cast<std::byte>(hex_value(text[i]) * 16 + hex_value(text[i + 1])));
  return bytes;
}

PeerProcess::PeerProcess(const std::string& transports) {
  const auto [their_in, my_out] = make_pipe();
  const auto [my_in, their_out] = make_pipe();
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, their_in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, their_out, STDOUT_FILENO);
  std::string program = HELPER_engine_peer;
  std::string allowed = transports;
  std::array<char*, 3> arguments = {program.data(), allowed.data(), nullptr};
  if (::posix_spawn(&pid_, program.c_str(), &actions, nullptr, arguments.data(), environ) != 0) give_up("cannot start " + program);
  posix_spawn_file_actions_destroy(&actions);
  ::close(their_in);
  ::close(their_out);
  to_ = my_out;
  from_ = my_in;
}

PeerProcess::~PeerProcess() {
  kill();
  ::close(to_);
  ::close(from_);
}

void PeerProcess::pause() {
  ::kill(pid_, SIGSTOP);
  int status = 0;
  ::waitpid(pid_, &status, WUNTRACED);
}

void PeerProcess::resume() { ::kill(pid_, SIGCONT); }

void PeerProcess::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
}

std::string PeerProcess::ask(const std::string& command) {
  const std::string line = command + "\n";
  for (std::size_t sent = 0; sent < line.size();) {
    const ssize_t n = ::write(to_, line.data() + sent, line.size() - sent);
    if (n < 0 && errno != EINTR) give_up("it does not take commands");
    if (n > 0) sent += static_cast<std::size_t>(n);
  }
  std::string answer;
  while (answer.empty() || answer.back() != '\n') {
    pollfd waiting{from_, POLLIN, 0};
    if (::poll(&waiting, 1, kAnswerMillis) <= 0) give_up("no answer to: " + command.substr(0, 40));
    std::array<char, 65536> buffer;
    const ssize_t n = ::read(from_, buffer.data(), buffer.size());
    if (n <= 0) give_up("it ended at: " + command.substr(0, 40));
    answer.append(buffer.data(), static_cast<std::size_t>(n));
  }
  answer.pop_back();
  return answer;
}

std::vector<std::byte> PeerProcess::ask_bytes(const std::string& command) { return from_hex(ask(command)); }

std::vector<std::byte> PeerProcess::add_region(std::uint64_t bytes, std::uint64_t seed) {
  return ask_bytes("add_region " + std::to_string(bytes) + " " + std::to_string(seed));
}

std::vector<std::byte> PeerProcess::allocate_region(std::uint64_t bytes, std::uint64_t seed) {
  return ask_bytes("allocate_region " + std::to_string(bytes) + " " + std::to_string(seed));
}

std::vector<std::byte> PeerProcess::publish(const std::vector<std::uint64_t>& sizes, std::uint64_t seed, bool in_arena) {
  std::string command = std::string(in_arena ? "publish_arena " : "publish ") + std::to_string(seed);
  for (const std::uint64_t size : sizes) command += " " + std::to_string(size);
  return ask_bytes(command);
}

bool PeerProcess::release(const std::vector<std::byte>& metadata) { return ask("release " + to_hex(metadata)) == "1"; }

std::string PeerProcess::fetch(const std::vector<std::byte>& metadata, std::uint64_t seed) {
  return ask("fetch " + std::to_string(seed) + " " + to_hex(metadata));
}

}  // namespace ray_hixl::test
