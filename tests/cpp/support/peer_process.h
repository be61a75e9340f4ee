// PeerProcess: an engine in a process of its own (engine_peer_main.cc), driven line by line through pipes. Killed when it goes.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace ray_hixl::test {

class PeerProcess {
 public:
  // Starts an engine with these transports, comma separated.
  explicit PeerProcess(const std::string& transports = "local,shm,cma,stream");
  ~PeerProcess();
  PeerProcess(const PeerProcess&) = delete;
  PeerProcess& operator=(const PeerProcess&) = delete;

  [[nodiscard]] std::vector<std::byte> descriptor() { return ask_bytes("descriptor"); }
  // A region of pattern bytes: ordinary memory, or memory in its source arena. The first region is number 0.
  [[nodiscard]] std::vector<std::byte> add_region(std::uint64_t bytes, std::uint64_t seed);
  [[nodiscard]] std::vector<std::byte> allocate_region(std::uint64_t bytes, std::uint64_t seed);
  void close_region(std::size_t number) { (void)ask("close_region " + std::to_string(number)); }
  // An object of uint8 tensors of these sizes; tensor i is filled with pattern seed + i. Its metadata.
  [[nodiscard]] std::vector<std::byte> publish(const std::vector<std::uint64_t>& sizes, std::uint64_t seed, bool in_arena = false);
  [[nodiscard]] bool release(const std::vector<std::byte>& metadata);
  // Fetches a peer's object (uint8 tensors as publish() makes them) and compares: "ok", "wrong bytes" or the error.
  [[nodiscard]] std::string fetch(const std::vector<std::byte>& metadata, std::uint64_t seed);
  // One field of its Stats: regions, objects, resolved, served_bytes, sessions.
  [[nodiscard]] std::uint64_t stat(const std::string& name) { return std::stoull(ask("stat " + name)); }
  void close_engine() { (void)ask("close_engine"); }

  void pause();   // SIGSTOP; waits until it is stopped
  void resume();  // SIGCONT
  void kill();    // SIGKILL; waits until it is gone

 private:
  [[nodiscard]] std::string ask(const std::string& command);
  [[nodiscard]] std::vector<std::byte> ask_bytes(const std::string& command);
  int pid_ = -1;
  int to_ = -1;
  int from_ = -1;
};

[[nodiscard]] std::string to_hex(const std::vector<std::byte>& bytes);
[[nodiscard]] std::vector<std::byte> from_hex(const std::string& text);

}  // namespace ray_hixl::test
