// The ways bytes can travel, as parameters of the conformance tests: every transport, from every kind of memory, between engines of one
// process and between processes.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "support/engines.h"

namespace ray_hixl::test {

struct Way {
  std::string name;
  std::string transport;  // the only one that the reader allows
  bool own_process = false;
  SourceMemory source = SourceMemory::kOrdinary;
  bool over_tcp = false;
  [[nodiscard]] bool on_device() const { return source == SourceMemory::kSlab || source == SourceMemory::kDevice; }
};
inline void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

inline std::vector<Way> every_way() {
  using enum SourceMemory;
  return {{"local_ordinary", "local"},
          {"local_arena", "local", false, kArena},
          {"shm_in_process", "shm", false, kArena},
          {"shm", "shm", true, kArena},
          {"cma_in_process", "cma"},
          {"cma_ordinary", "cma", true},
          {"cma_arena", "cma", true, kArena},
          {"stream_unix_in_process", "stream"},
          {"stream_unix_ordinary", "stream", true},
          {"stream_unix_arena", "stream", true, kArena},
          {"stream_tcp_in_process", "stream", false, kOrdinary, true},
          {"stream_tcp_ordinary", "stream", true, kOrdinary, true},
          {"hixl_in_process", "hixl", false, kSlab},
          {"hixl", "hixl", true, kSlab},
          {"hixl_registered", "hixl", true, kDevice},
          {"hixl_other_host", "hixl", true, kSlab, true}};
}

inline std::vector<Way> ways_between_processes() {
  std::vector<Way> ways = every_way();
  std::erase_if(ways, [](const Way& way) { return !way.own_process; });
  return ways;
}

// Two devices, so that copies within a process cross from one to the other.
inline constexpr std::int32_t kOwnerDevice = 1;
inline constexpr std::int32_t kReaderDevice = 0;

// An engine that is read, here or in a process of its own.
class Owner {
 public:
  virtual ~Owner() = default;
  [[nodiscard]] virtual Bytes descriptor() = 0;
  // Regions of pattern bytes; the first is number 0.
  [[nodiscard]] virtual Bytes add_region(std::uint64_t bytes, std::uint64_t seed, SourceMemory source) = 0;
  virtual void close_region(std::size_t number) = 0;
  virtual void close_engine() = 0;
  [[nodiscard]] virtual std::uint64_t served_bytes() = 0;
};

class OwnerHere final : public Owner {
 public:
  Bytes descriptor() override { return engine_->descriptor(); }
  Bytes add_region(std::uint64_t bytes, std::uint64_t seed, SourceMemory source) override {
    regions_.push_back(make_region(*engine_, bytes, seed, source, kOwnerDevice));
    return regions_.back().descriptor();
  }
  void close_region(std::size_t number) override { regions_.at(number).close(); }
  void close_engine() override { engine_->close(); }
  std::uint64_t served_bytes() override { return engine_->stats().served_bytes; }

 private:
  const OwnEngine engine_;
  std::vector<Region> regions_;
};

class OwnerThere final : public Owner {
 public:
  Bytes descriptor() override { return process_.descriptor(); }
  Bytes add_region(std::uint64_t bytes, std::uint64_t seed, SourceMemory source) override {
    return process_.add_region(bytes, seed, source);
  }
  void close_region(std::size_t number) override { process_.close_region(number); }
  void close_engine() override { process_.close_engine(); }
  std::uint64_t served_bytes() override { return process_.stat("served_bytes"); }
  [[nodiscard]] PeerProcess& process() { return process_; }

 private:
  PeerProcess process_;
};

}  // namespace ray_hixl::test
