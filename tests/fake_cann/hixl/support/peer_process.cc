#include "hixl/support/peer_process.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <sstream>

namespace fake_hixl::test {

PeerProcess::PeerProcess(int device, const std::vector<std::string>& environment) {
  int commands[2] = {-1, -1};
  int answers[2] = {-1, -1};
  if (::pipe2(commands, O_CLOEXEC) != 0 || ::pipe2(answers, O_CLOEXEC) != 0) std::abort();
  const std::string number = std::to_string(device);
  std::vector<char*> all;
  for (char** each = environ; *each != nullptr; ++each) all.push_back(*each);
  for (const std::string& each : environment) all.insert(all.begin(), const_cast<char*>(each.c_str()));  // the first one counts
  all.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(commands[0], STDIN_FILENO);
    ::dup2(answers[1], STDOUT_FILENO);
    const char* arguments[] = {"fake_hixl_peer", "--peer", number.c_str(), nullptr};
    ::execve("/proc/self/exe", const_cast<char**>(arguments), all.data());
    ::_exit(127);
  }
  ::close(commands[0]);
  ::close(answers[1]);
  to_ = commands[1];
  from_ = answers[0];
}

hixl::Status PeerProcess::open(const TestOptions& options, const std::string& name) {
  std::string command = "open " + (name.empty() ? "somewhere" : name);
  for (const auto& [key, value] : options) command += " " + key + " " + value;
  std::istringstream answer(ask(command));
  hixl::Status status = hixl::kFailed;
  answer >> status >> name_;
  return status;
}

PeerMemory PeerProcess::allocate(hixl::MemType kind, std::size_t size, unsigned seed) {
  std::istringstream answer(ask("allocate " + std::to_string(kind) + " " + std::to_string(size) + " " + std::to_string(seed)));
  PeerMemory memory{0, 0, size};
  answer >> memory.number >> memory.address;
  return memory;
}

PeerMemory PeerProcess::add_region(hixl::MemType kind, std::size_t size, unsigned seed) {
  const PeerMemory memory = allocate(kind, size, seed);
  if (register_memory(memory) != hixl::kSuccess) std::abort();
  return memory;
}

bool PeerProcess::holds(const PeerMemory& memory, unsigned seed) {
  return number("holds " + std::to_string(memory.number) + " " + std::to_string(seed)) == 1;
}

std::string PeerProcess::transfer_command(hixl::TransferOp op, const PeerMemory& memory, const std::string& remote,
                                          std::uintptr_t address) {
  return "transfer " + std::to_string(memory.number) + " " + std::to_string(op) + " " + remote + " " + std::to_string(address);
}

void PeerProcess::tell(const std::string& command) {
  const std::string line = command + "\n";
  [[maybe_unused]] const ssize_t written = ::write(to_, line.data(), line.size());
}

std::string PeerProcess::ask(const std::string& command) {
  tell(command);
  std::string line;
  for (char byte = 0; ::read(from_, &byte, 1) == 1 && byte != '\n';) line += byte;
  return line;
}

std::uint32_t PeerProcess::number(const std::string& command) {
  const std::string answer = ask(command);
  return answer.empty() ? hixl::kFailed : static_cast<std::uint32_t>(std::stoul(answer));
}

void PeerProcess::pause() {
  int status = 0;
  ::kill(pid_, SIGSTOP);
  ::waitpid(pid_, &status, WUNTRACED);
}

void PeerProcess::resume() { ::kill(pid_, SIGCONT); }

void PeerProcess::kill() {
  if (pid_ < 0) return;
  ::kill(pid_, SIGKILL);
  (void)wait();
}

int PeerProcess::wait() {
  int status = 0;
  ::waitpid(pid_, &status, 0);
  ::close(to_);
  ::close(from_);
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace fake_hixl::test
