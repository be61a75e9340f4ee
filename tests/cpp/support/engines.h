// What tests at the level of engines share: engines, regions of pattern bytes, and the ways to reach a peer.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "control/descriptor.h"
#include "ray_hixl/engine.h"
#include "support/pattern.h"
#include "support/peer_process.h"
#include "support/regions.h"
#include "support/yardstick.h"

namespace ray_hixl::test {

using namespace std::chrono_literals;

inline constexpr auto kConnect = 10s;
inline constexpr auto kRead = 20s;

// An engine that is closed at the end of the test, so that every thread is joined.
class OwnEngine {
 public:
  explicit OwnEngine(const std::vector<std::string>& transports = Options{}.transports) {
    Options options;
    options.transports = transports;
    engine_ = Engine::create(options).value();
  }
  explicit OwnEngine(const Options& options) : engine_(Engine::create(options).value()) {}
  ~OwnEngine() { engine_->close(); }
  OwnEngine(const OwnEngine&) = delete;
  OwnEngine& operator=(const OwnEngine&) = delete;
  const Engine* operator->() const { return &*engine_; }
  const Engine& operator*() const { return *engine_; }

 private:
  std::optional<Engine> engine_;
};

// Bytes behind a region, kept by it.
inline Region add_region(const Engine& engine, std::uint64_t bytes, std::uint64_t seed) {
  auto memory = std::make_shared<Bytes>(make_pattern(bytes, seed));
  return engine.register_memory({memory->data(), bytes}, false, memory).value();
}

// Host memory only.
inline std::span<std::byte> bytes_of(const Region& region) { return {region.range().address, region.range().length}; }

inline Result<Batch> prepare_one(const Peer& peer, const BatchOp& op) { return peer.prepare({&op, 1}); }

// All of `remote` into the beginning of `local`.
inline Batch whole(const Peer& peer, const Region& local, const RemoteRegion& remote) {
  return prepare_one(peer, {local, 0, remote, 0, remote.length}).value();
}

inline std::vector<std::string> names(const std::vector<TransportBytes>& moved) {
  std::vector<std::string> list;
  for (const TransportBytes& one : moved) list.push_back(one.transport);
  return list;
}

// The engine's descriptor as somebody sees it who can reach it by TCP only.
inline Bytes tcp_only(const Bytes& descriptor) {
  control::EngineDescriptor fields = control::decode_engine(descriptor).value();
  fields.unix_name.clear();
  return control::encode(fields);
}

MATCHER_P(FailsWith, code, "") {
  *result_listener << arg.to_string();
  return arg.code() == code;
}
MATCHER(IsOk, "") {
  *result_listener << arg.to_string();
  return arg.is_ok();
}

}  // namespace ray_hixl::test
