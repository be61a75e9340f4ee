// PeerProcess: an engine in a process of its own (engine_peer_main.cc).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "support/line_process.h"
#include "support/regions.h"

namespace ray_hixl::test {

// How a process is started. Options and environment are lists of NAME=value.
struct PeerSetup {
  std::string transports = "local,shm,cma,stream,hixl";
  std::vector<std::string> options = {};
  std::vector<std::string> environment = {};
};

class PeerProcess : public LineProcess {
 public:
  // Starts an engine with these transports, comma separated.
  explicit PeerProcess(const std::string& transports = "local,shm,cma,stream,hixl") : PeerProcess(PeerSetup{transports, {}, {}}) {}
  explicit PeerProcess(const PeerSetup& setup);

  [[nodiscard]] std::vector<std::byte> descriptor() { return ask_bytes("descriptor"); }
  // A region of pattern bytes; device memory is of npu:1. The first region is number 0.
  [[nodiscard]] std::vector<std::byte> add_region(std::uint64_t bytes, std::uint64_t seed, SourceMemory memory = SourceMemory::kOrdinary);
  void close_region(std::size_t number) { (void)ask("close_region " + std::to_string(number)); }
  // An object of uint8 tensors of these sizes; tensor i is filled with pattern seed + i. kDevice: not registered, so it is packed. Its
  // metadata.
  [[nodiscard]] std::vector<std::byte> publish(const std::vector<std::uint64_t>& sizes, std::uint64_t seed,
                                               SourceMemory memory = SourceMemory::kOrdinary);
  [[nodiscard]] bool release(const std::vector<std::byte>& metadata);
  // Fetches a peer's object (uint8 tensors as publish() makes them) and compares: "ok", "wrong bytes" or the error.
  [[nodiscard]] std::string fetch(const std::vector<std::byte>& metadata, std::uint64_t seed);
  // At least so many bytes in the slabs of npu:1: "ok" or the error.
  [[nodiscard]] std::string reserve(std::uint64_t bytes) { return ask("reserve " + std::to_string(bytes)); }
  // What HIXL calls its engine on npu:1, which has been used.
  [[nodiscard]] std::string hixl_name() { return ask("hixl_name"); }
  // Sets a switch of its FAKE HIXL; counts of its FAKE libraries, see fake_count().
  void set_fake(const std::string& name, const std::string& value) { (void)ask_fake("set_fake " + name + " " + value); }
  [[nodiscard]] std::uint64_t fake_count(const std::string& name) { return std::stoull(ask_fake("fake_count " + name)); }
  // One field of its Stats: regions, objects, resolved, served_bytes, sessions, links; or of those of npu:1: connects, refreshes, retries.
  [[nodiscard]] std::uint64_t stat(const std::string& name) { return std::stoull(ask("stat " + name)); }
  void close_engine() { (void)ask("close_engine"); }

 private:
  [[nodiscard]] std::vector<std::byte> ask_bytes(const std::string& command);
  [[nodiscard]] std::string ask_fake(const std::string& command);
};

[[nodiscard]] std::string to_hex(const std::vector<std::byte>& bytes);
[[nodiscard]] std::vector<std::byte> from_hex(const std::string& text);

}  // namespace ray_hixl::test
