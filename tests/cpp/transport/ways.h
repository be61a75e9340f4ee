// The ways bytes can travel, as parameters of the conformance tests: every transport, from every kind of memory, between engines of one
// process and between processes.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "support/engines.h"

namespace ray_hixl::test {

struct Way {
  std::string name;
  bool own_process = false;
  SourceMemory source = SourceMemory::kOrdinary;
  bool over_tcp = false;
  std::string transport = {};  // the only one that the reader allows
  bool crosses = false;        // from a device to the host, or from the host to a device
  bool is_pinned = false;      // the host memory here, if any
  [[nodiscard]] bool from_device() const { return source == SourceMemory::kSlab || source == SourceMemory::kDevice; }
  [[nodiscard]] bool to_device() const { return from_device() != crosses; }
  [[nodiscard]] bool uses_devices() const { return from_device() || to_device() || is_pinned; }
  // By parts of the owner's staging memory that are mapped?
  [[nodiscard]] bool maps_parts() const { return transport == "staged" && from_device() && !over_tcp; }
  [[nodiscard]] bool is_one_sided() const { return transport != "stream" && transport != "staged"; }  // else the owner sends the bytes
};
// Of what the reader reads into.
inline SourceMemory local_memory(const Way& way) {
  if (way.to_device()) return SourceMemory::kSlab;
  return way.is_pinned ? SourceMemory::kPinned : SourceMemory::kArena;
}
inline void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

// What each transport of base/transports.def is tested with: one without such a function does not compile.
namespace ways {

using enum SourceMemory;

inline std::vector<Way> local() { return {{"local_ordinary"}, {"local_arena", false, kArena}}; }
inline std::vector<Way> shm() { return {{"shm_in_process", false, kArena}, {"shm", true, kArena}}; }
inline std::vector<Way> cma() { return {{"cma_in_process"}, {"cma_ordinary", true}, {"cma_arena", true, kArena}}; }
inline std::vector<Way> stream() {
  return {{"stream_unix_in_process"},
          {"stream_unix_ordinary", true},
          {"stream_unix_arena", true, kArena},
          {"stream_tcp_in_process", false, kOrdinary, true},
          {"stream_tcp_ordinary", true, kOrdinary, true}};
}
inline std::vector<Way> hixl() {
  return {{"hixl_in_process", false, kSlab},
          {"hixl", true, kSlab},
          {"hixl_registered", true, kDevice},
          {"hixl_other_host", true, kSlab, true},
          {"hixl_from_pinned", true, kPinned, false, {}, true},
          {"hixl_to_pinned", true, kSlab, false, {}, true, true},
          {"hixl_between_pinned", true, kPinned, false, {}, false, true}};
}

inline std::vector<Way> staged() {
  return {{"staged_to_host_in_process", false, kSlab, false, {}, true},
          {"staged_to_host", true, kSlab, false, {}, true},
          {"staged_to_host_registered", true, kDevice, false, {}, true},
          {"staged_to_host_tcp", true, kDevice, true, {}, true},
          {"staged_from_host", true, kOrdinary, false, {}, true},
          {"staged_from_host_tcp", true, kArena, true, {}, true},
          {"staged_between_devices_in_process", false, kSlab},
          {"staged_between_devices", true, kSlab},
          {"staged_between_devices_tcp", true, kDevice, true}};
}

}  // namespace ways

inline std::vector<Way> every_way() {
  std::vector<Way> all;
  const auto add = [&](const std::string& transport, const std::vector<Way>& of_transport) {
    for (Way way : of_transport) {
      way.transport = transport;
      all.push_back(std::move(way));
    }
  };
#define RAY_HIXL_TRANSPORT(name, kind, number, memory) add(#name, ways::name());
#include "base/transports.def"
  return all;
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
  PeerProcess process_{"local,shm,cma,stream,hixl,staged"};
};

}  // namespace ray_hixl::test
