// The ways bytes can travel, as parameters of the conformance tests: every transport, from ordinary memory and from a source arena,
// between engines of one process and between processes.
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
  bool source_arena = false;
  bool over_tcp = false;
};
inline void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

inline std::vector<Way> every_way() {
  return {{"local_ordinary", "local"},
          {"local_arena", "local", false, true},
          {"shm_in_process", "shm", false, true},
          {"shm", "shm", true, true},
          {"cma_in_process", "cma"},
          {"cma_ordinary", "cma", true},
          {"cma_arena", "cma", true, true},
          {"stream_unix_in_process", "stream"},
          {"stream_unix_ordinary", "stream", true},
          {"stream_unix_arena", "stream", true, true},
          {"stream_tcp_in_process", "stream", false, false, true},
          {"stream_tcp_ordinary", "stream", true, false, true}};
}

inline std::vector<Way> ways_between_processes() {
  std::vector<Way> ways = every_way();
  std::erase_if(ways, [](const Way& way) { return !way.own_process; });
  return ways;
}

// An engine that is read, here or in a process of its own.
class Owner {
 public:
  virtual ~Owner() = default;
  [[nodiscard]] virtual Bytes descriptor() = 0;
  // Regions of pattern bytes; the first is number 0.
  [[nodiscard]] virtual Bytes add_region(std::uint64_t bytes, std::uint64_t seed, bool in_arena) = 0;
  virtual void close_region(std::size_t number) = 0;
  virtual void close_engine() = 0;
  [[nodiscard]] virtual std::uint64_t served_bytes() = 0;
};

class OwnerHere final : public Owner {
 public:
  Bytes descriptor() override { return engine_->descriptor(); }
  Bytes add_region(std::uint64_t bytes, std::uint64_t seed, bool in_arena) override {
    regions_.push_back(in_arena ? engine_->allocate(bytes).value() : test::add_region(*engine_, bytes, seed));
    fill_pattern(bytes_of(regions_.back()), seed);
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
  Bytes add_region(std::uint64_t bytes, std::uint64_t seed, bool in_arena) override {
    return in_arena ? process_.allocate_region(bytes, seed) : process_.add_region(bytes, seed);
  }
  void close_region(std::size_t number) override { process_.close_region(number); }
  void close_engine() override { process_.close_engine(); }
  std::uint64_t served_bytes() override { return process_.stat("served_bytes"); }
  [[nodiscard]] PeerProcess& process() { return process_; }

 private:
  PeerProcess process_;
};

}  // namespace ray_hixl::test
