// Two engines: one here on device 0, one in another process on device 1.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "hixl/fake_hixl.h"
#include "hixl/support/engines.h"
#include "hixl/support/memory.h"
#include "hixl/support/peer_process.h"
#include "runtime/acl.h"

namespace fake_hixl::test {

using hixl::kMemDevice;
using hixl::kMemHost;
using hixl::kRead;
using hixl::kSuccess;
using hixl::kWrite;
using hixl::MemHandle;
using hixl::TransferOp;
using hixl::TransferOpDesc;
using hixl::TransferReq;
using hixl::TransferStatus;

inline constexpr std::size_t kSize = 100000;
inline constexpr unsigned kTheirs = 1;  // seeds
inline constexpr unsigned kOurs = 2;

class Engines : public testing::Test {
 protected:
  ~Engines() override {
    engine_.Finalize();
    fake_hixl_reset_switches();
  }

  // Both engines, a region of the peer and one of ours.
  void open(const TestOptions& options = {}, const TestOptions& peers_options = {}) {
    ASSERT_EQ(peer_.open(peers_options), kSuccess);
    theirs_ = peer_.add_region(kMemDevice, kSize, kTheirs);
    open_here(options);
  }
  void open_here(const TestOptions& options = {}) {
    hixl::Status status = kSuccess;
    name_ = initialize_somewhere(engine_, options, status);
    ASSERT_EQ(status, kSuccess) << recent_error();
    ASSERT_EQ(add(ours_), kSuccess);
  }
  void open_and_connect(const TestOptions& options = {}) {
    open(options);
    ASSERT_EQ(connect(), kSuccess) << recent_error();
  }

  hixl::Status add(const Memory& memory) { return engine_.RegisterMem(memory.desc(), memory.kind(), handle_); }
  hixl::Status connect(int timeout_ms = 5000) { return engine_.Connect(peer_.name().c_str(), timeout_ms); }
  hixl::Status disconnect() { return engine_.Disconnect(peer_.name().c_str()); }

  [[nodiscard]] TransferOpDesc whole() const { return {ours_.address(), theirs_.address, kSize}; }
  hixl::Status transfer(const std::vector<TransferOpDesc>& descriptors, TransferOp op = kRead, int timeout_ms = 5000) {
    return engine_.TransferSync(peer_.name().c_str(), op, descriptors, timeout_ms);
  }
  hixl::Status read() { return transfer({whole()}); }
  hixl::Status start(TransferReq& request, void* user_data = nullptr) {
    return engine_.TransferAsync(peer_.name().c_str(), kRead, {whole()}, {user_data, {}}, request);
  }
  hixl::Status poll(TransferReq request) { return engine_.GetTransferStatus(request, status_); }
  // Polls until it is no longer waiting; the last poll's status.
  hixl::Status poll_to_the_end(TransferReq request) {
    hixl::Status status = poll(request);
    while (status_ == TransferStatus::WAITING) {
      std::this_thread::yield();
      status = poll(request);
    }
    return status;
  }

  const int context_ = aclrtSetDevice(0);  // what follows needs it
  PeerProcess peer_;
  PeerMemory theirs_;
  Memory ours_{kMemDevice, kSize, kOurs};
  hixl::Hixl engine_;
  std::string name_;
  MemHandle handle_ = nullptr;
  TransferStatus status_ = TransferStatus::WAITING;  // of the last poll
};

}  // namespace fake_hixl::test
