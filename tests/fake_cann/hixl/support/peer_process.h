// An engine in another process: this program again, driven line by line through pipes. Killed when it goes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hixl/support/engines.h"

namespace fake_hixl::test {

// Memory of the peer, by its number there.
struct PeerMemory {
  std::size_t number = 0;
  std::uintptr_t address = 0;
  std::size_t size = 0;
};

class PeerProcess {
 public:
  // `environment` is added: "NAME=value".
  explicit PeerProcess(int device = 1, const std::vector<std::string>& environment = {});
  ~PeerProcess() { kill(); }
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  // Initialises its engine; its status, and then name() is known.
  hixl::Status open(const TestOptions& options = {}, const std::string& name = "");
  [[nodiscard]] const std::string& name() const { return name_; }
  void finalize() { (void)ask("finalize"); }

  [[nodiscard]] PeerMemory allocate(hixl::MemType kind, std::size_t size, unsigned seed);
  hixl::Status register_memory(const PeerMemory& memory) { return number("register " + std::to_string(memory.number)); }
  hixl::Status deregister_memory(const PeerMemory& memory) { return number("deregister " + std::to_string(memory.number)); }
  void free(const PeerMemory& memory) { (void)ask("free " + std::to_string(memory.number)); }
  [[nodiscard]] bool holds(const PeerMemory& memory, unsigned seed);
  // Both in one.
  [[nodiscard]] PeerMemory add_region(hixl::MemType kind, std::size_t size, unsigned seed);

  hixl::Status connect(const std::string& remote) { return number("connect " + remote); }
  hixl::Status disconnect(const std::string& remote) { return number("disconnect " + remote); }
  // All of a memory of the peer, from or to `address` of the engine `remote`.
  hixl::Status transfer(hixl::TransferOp op, const PeerMemory& memory, const std::string& remote, std::uintptr_t address) {
    return number(transfer_command(op, memory, remote, address));
  }
  // Without waiting for the answer.
  void begin_transfer(hixl::TransferOp op, const PeerMemory& memory, const std::string& remote, std::uintptr_t address) {
    tell(transfer_command(op, memory, remote, address));
  }
  [[nodiscard]] std::uint32_t inbound_links() { return number("inbound_links"); }
  void set(const std::string& name, const std::string& value) { (void)ask("set " + name + " " + value); }

  void pause();   // SIGSTOP; returns when it is stopped
  void resume();  // SIGCONT
  void kill();    // SIGKILL; returns when it is gone
  // Waits until it ends by itself; its exit code.
  [[nodiscard]] int wait();

 private:
  static std::string transfer_command(hixl::TransferOp op, const PeerMemory& memory, const std::string& remote, std::uintptr_t address);
  void tell(const std::string& command);
  [[nodiscard]] std::string ask(const std::string& command);
  [[nodiscard]] std::uint32_t number(const std::string& command);

  int pid_ = -1;
  int to_ = -1;
  int from_ = -1;
  std::string name_;
};

// What the other process does: reads commands until its standard input ends.
int run_peer(int device);

}  // namespace fake_hixl::test
