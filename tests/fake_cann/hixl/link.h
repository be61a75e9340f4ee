// An outbound link: the only direction in which transfers go.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "hixl/huge_block.h"
#include "hixl/worker.h"

namespace fake_hixl {

// What an engine says about itself when it connects.
struct Self {
  Rules rules;
  Soc soc = Soc::kOther;
  std::string name;
  int device = 0;  // physical
  std::string nic_ip;
  Endpoints endpoints;
};

class Link {
 public:
  Link(const Self& self, std::string remote) : self_(self), remote_(std::move(remote)) {}

  // The per-remote mutex of HIXL. A synchronous transfer holds it until it ended; polls and Disconnect wait meanwhile.
  // REQUIRES for everything else: it is held.
  std::mutex& mutex() { return mutex_; }

  // Exchanges regions, once and for all.
  [[nodiscard]] Status connect(const Address& address, std::vector<Region> local, std::chrono::milliseconds timeout);
  [[nodiscard]] bool is_connected() const { return worker_ != nullptr; }
  // Aborts the slot, once for each request in flight; then stops the worker, which is the channel, and hangs up.
  void close();

  [[nodiscard]] Status start(hixl::TransferOp op, const std::vector<hixl::TransferOpDesc>& descriptors, void* user_data,
                             std::shared_ptr<Request>& request);
  // Starts and waits; after the time-out the stream is aborted and the link is broken.
  [[nodiscard]] Status run(hixl::TransferOp op, const std::vector<hixl::TransferOpDesc>& descriptors, Deadline deadline);
  // A started request's end was seen.
  void retire(const Request& request);

  [[nodiscard]] const std::string& remote() const { return remote_; }

 private:
  struct InFlight {
    std::shared_ptr<Request> request;
    std::unique_ptr<HugeBlock> descriptors;  // on the device; null where an engine has no slots
  };

  [[nodiscard]] Status exchange(const Address& address, std::chrono::milliseconds timeout, Fd& socket, Welcome& welcome);
  [[nodiscard]] Status accept(const std::vector<Region>& local, const Welcome& welcome);
  // A slot if the link has none, and memory of the device for so many descriptors.
  [[nodiscard]] Status prepare(std::size_t descriptors, std::unique_ptr<HugeBlock>& memory);
  void give_lease_back();
  [[nodiscard]] Status resolve(const std::vector<hixl::TransferOpDesc>& descriptors, std::vector<Move>& moves);
  [[nodiscard]] Status append(const hixl::TransferOpDesc& descriptor, std::vector<Move>& moves);

  const Self self_;
  const std::string remote_;
  std::mutex mutex_;
  std::string protocol_;  // guarded by mutex_, as below
  std::shared_ptr<const Path> path_;
  std::unique_ptr<Worker> worker_;      // null while it is not connected
  std::vector<InFlight> in_flight_;     // started and not yet retired
  std::shared_ptr<const Lease> lease_;  // null unless there are any, and where there are no slots
};

}  // namespace fake_hixl
